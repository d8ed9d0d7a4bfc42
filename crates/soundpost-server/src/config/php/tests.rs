//! What is read is what PHP 8.2 prints for it; everything else is unreadable, in its own key only.

use std::collections::BTreeMap;

use super::*;

/// The value of `expression`, with `SET` and `COMMAS` set.
fn eval(expression: &str) -> Result<Plain, String> {
    let value = parse(&format!("<?php\nreturn {expression};\n")).map_err(|error| error.to_string())?;
    let set = BTreeMap::from([
        ("SET", Plain::Text("set".to_owned())),
        ("COMMAS", Plain::Text(" a, b,,c ".to_owned())),
        ("NUMBER", Plain::Text("60".to_owned())),
        ("ON", Plain::Boolean(true)),
        ("NULL", Plain::Null),
        ("EMPTY", Plain::Text(String::new())),
    ]);
    let evaluated = evaluate(&value, &|name| set.get(name).cloned()).map_err(|unread| unread.what);
    evaluated.map(|evaluated| evaluated.plain)
}

fn text(text: &str) -> Plain {
    Plain::Text(text.to_owned())
}

fn texts(list: &[&str]) -> Plain {
    Plain::List(list.iter().map(|item| text(item)).collect())
}

#[test]
fn literals_are_what_php_makes_of_them() {
    for (expression, expected) in [
        ("'it\\'s \\\\ \\n $x'", text("it's \\ \\n $x")),
        ("\"a\\tb\\n\\\"\\$\\x41\\101\\u{17c}\\q \\x\"", text("a\tb\n\"$AA\u{17c}\\q \\x")),
        ("\"\\xC5\\xBC\"", text("\u{17c}")),
        ("\"5$ {x} $\"", text("5$ {x} $")),
        ("'two\nlines'", text("two\nlines")),
        ("10_000", Plain::Whole(10_000)),
        ("-0x1F", Plain::Whole(-31)),
        ("0b101", Plain::Whole(5)),
        ("017", Plain::Whole(15)),
        ("0o17", Plain::Whole(15)),
        ("0", Plain::Whole(0)),
        ("1.5", Plain::Fraction(1.5)),
        (".5", Plain::Fraction(0.5)),
        ("1e3", Plain::Fraction(1000.0)),
        ("9223372036854775808", Plain::Fraction(9_223_372_036_854_775_808.0)),
        ("TRUE", Plain::Boolean(true)),
        ("\\false", Plain::Boolean(false)),
        ("Null", Plain::Null),
        ("[]", Plain::List(vec![])),
        ("array('a', \"b\",)", texts(&["a", "b"])),
        ("['x' => 'a', 'b', 'x' => 'c', 7 => 'd', '7' => 'e', 'f']", texts(&["c", "b", "e", "f"])),
        ("(('a'))", text("a")),
        ("'a' . 1 . true . null . false . 'b'", text("a11b")),
    ] {
        assert_eq!(eval(expression), Ok(expected), "{expression}");
    }
}

#[test]
fn env_casts_and_the_calls_that_are_read() {
    for (expression, expected) in [
        ("env('SET')", text("set")),
        ("\\ENV( 'SET' , 1, )", text("set")),
        ("env('MISSING')", Plain::Null),
        ("env('MISSING', 8080)", Plain::Whole(8080)),
        ("env('NULL', 'no')", Plain::Null),
        ("env('EMPTY', 'no')", text("")),
        ("env('MISSING', env('SET', 'x'))", text("set")),
        ("env('SET', config('app.x'))", text("set")),
        ("(int) env('NUMBER')", Plain::Whole(60)),
        ("(int) env('MISSING')", Plain::Whole(0)),
        ("(integer) ' 7 '", Plain::Whole(7)),
        ("(bool) env('ON')", Plain::Boolean(true)),
        ("(bool) '0'", Plain::Boolean(false)),
        ("(bool) 'false'", Plain::Boolean(true)),
        ("(string) env('NULL')", text("")),
        ("(string) 12", text("12")),
        ("( array ) env('SET')", texts(&["set"])),
        ("(int) (bool) 'x'", Plain::Whole(1)),
        ("env('NULL') ?? env('MISSING') ?? 'last'", text("last")),
        ("env('EMPTY') ?? 'last'", text("")),
        ("env('EMPTY') ?: '0' ?: 'last'", text("last")),
        ("(int) env('MISSING') ?: 5", Plain::Whole(5)),
        ("'a' . env('MISSING') ?: 'b'", text("a")),
        ("explode(',', env('COMMAS'))", texts(&[" a", " b", "", "c "])),
        ("explode(',', (string) env('MISSING', '*'))", texts(&["*"])),
        ("explode(',', env('EMPTY'))", texts(&[""])),
        ("array_map('trim', explode(',', env('COMMAS', '')))", texts(&["a", "b", "", "c"])),
        (
            "array_values(array_filter(array_map('trim', explode(',', env('COMMAS')))))",
            texts(&["a", "b", "c"]),
        ),
        ("array_filter(['a', '0', '', null, false, 0, [], 'b'])", texts(&["a", "b"])),
        ("array_unique(['a', 'b', 'a'])", texts(&["a", "b"])),
        ("trim(\" \\0\\x0ba \")", text("a")),
        ("filter_var(env('ON'), FILTER_VALIDATE_BOOLEAN)", Plain::Boolean(true)),
        ("filter_var(' Yes', FILTER_VALIDATE_BOOL)", Plain::Boolean(true)),
        ("filter_var('enabled', FILTER_VALIDATE_BOOL)", Plain::Boolean(false)),
    ] {
        assert_eq!(eval(expression), Ok(expected), "{expression}");
    }
}

#[test]
fn what_is_not_certain_is_unreadable_and_says_what_it_is() {
    for (expression, expected) in [
        ("config('app.url')", "a call of config()"),
        ("env($name)", "a call of env()"),
        ("env('A', 1, 2)", "a call of env()"),
        ("env(...$x)", "a call of env()"),
        ("env(key: 'A')", "a call of env()"),
        ("Env::get('A')", "the name Env"),
        ("App\\Enum::A->value", "the name App\\Enum"),
        ("PHP_INT_MAX", "the name PHP_INT_MAX"),
        ("$origins", "the variable $origins"),
        ("\"a $x b\"", "a text with variables in it"),
        ("\"{$a[\"b\"]} \\\" ${c}\"", "a text with variables in it"),
        ("\"\\xff\"", "a text with variables in it"),
        ("<<<EOT\n  'x\n  EOT", "a text with variables in it"),
        ("<<<'EOT'\nEOTX\nEOT . 'x'", "a text with variables in it"),
        ("`ls`", "a text with variables in it"),
        ("fn () => ['*']", "a closure"),
        ("function ($a) { return [1, 2]; }", "a closure"),
        ("static fn ($a) => $a", "a closure"),
        ("require __DIR__ . '/x.php'", "another file"),
        ("env('A') ? 'a' : 'b'", "a condition"),
        ("env('A') === 'b'", "the operator ==="),
        ("env('A') || env('B')", "the operator ||"),
        ("!env('A')", "the operator !"),
        ("1 + 1", "the operator +"),
        ("60 * 60", "the operator *"),
        ("['a'][0]", "the operator ["),
        ("match (true) { default => ['a', 'b'] }", "a call of match()"),
        ("new Foo(1)", "the name new"),
        ("#[A(1, 2)] fn () => 1", "the operator #["),
        ("array_map(trim(...))", "a call of array_map()"),
        ("Trim(...)", "trim(...)"),
        ("'a' 'b'", "an expression"),
        ("array_map(fn ($x) => trim($x), explode(',', 'a'))", "a call of array_map()"),
        ("array_filter(['a'], 'strlen')", "a call of array_filter()"),
        ("filter_var('1', FILTER_VALIDATE_INT)", "a call of filter_var()"),
        ("(int) '60s'", "a cast of this value"),
        ("explode('', 'a')", "a call with these arguments"),
        ("'a' . 1.5", "these values joined to a text"),
        ("['a', ...$more]", "an entry whose key is not certain"),
        ("[$key => 'a']", "an entry whose key is not certain"),
        ("['a', config('b')]", "a call of config()"),
    ] {
        assert_eq!(eval(expression), Err(expected.to_owned()), "{expression}");
    }
}

#[test]
fn an_unreadable_part_costs_its_own_key_and_no_other() {
    let value = parse(
        "<?php\n\ndeclare(strict_types=1);\nuse Illuminate\\Support\\{Str, Arr};\n$x = fn ($a) => [$a => 1, ];\n\n\
         return [ // comment with ' and ]\n    'before' => 1, # another \"\n    'closure' => function () { return ['a' => 1]; },\n\
         /* ] */ 'inner' => ['a' => config(['x', 'y']), 'b' => 2],\n    'arrow' => fn ($a) => [$a => 2],\n\
         'after' => 3, 'twice' => 1, 'twice' => 4,\n];\n",
    )
    .unwrap();
    let found = |value: &Value, key: &str| match value.get(key) {
        Lookup::Found(value) => {
            evaluate(value, &|_| None).map(|found| found.plain).map_err(|unread| unread.to_string())
        }
        other @ (Lookup::Absent | Lookup::Unreadable(_)) => Err(format!("{other:?}")),
    };
    assert_eq!(found(&value, "before"), Ok(Plain::Whole(1)));
    assert_eq!(found(&value, "closure"), Err("a closure in line 9".to_owned()));
    assert_eq!(found(&value, "arrow"), Err("a closure in line 11".to_owned()));
    assert_eq!(found(&value, "after"), Ok(Plain::Whole(3)));
    assert_eq!(found(&value, "twice"), Ok(Plain::Whole(4)));
    assert_eq!(found(&value, "absent"), Err("Absent".to_owned()));
    let Lookup::Found(inner) = value.get("inner") else { panic!("inner") };
    assert_eq!(found(inner, "a"), Err("a call of config() in line 10".to_owned()));
    assert_eq!(found(inner, "b"), Ok(Plain::Whole(2)));
    assert!(matches!(inner.get("b"), Lookup::Found(Value { line: 10, .. })));
}

#[test]
fn an_entry_of_any_key_hides_what_stands_before_it() {
    for (array, certain) in [
        ("['a' => 1, ...$more]", false),
        ("[...$more, 'a' => 1]", true),
        ("['a' => 1, KEY => 2]", false),
        ("[KEY => 2, 'a' => 1]", true),
        ("['a' => 1, ...['a' => 2]]", false),
        ("['a' => 1, 'b' . 'c' => 2]", false),
    ] {
        let value = parse(&format!("<?php return {array};")).unwrap();
        assert_eq!(matches!(value.get("a"), Lookup::Found(_)), certain, "{array}");
    }
    let value = parse("<?php return config('x');").unwrap();
    assert_eq!(value.get("a"), Lookup::Unreadable(Unread::new(1, "a call of config()")));
    assert_eq!(parse("<?php return null;").unwrap().get("a"), Lookup::Absent);
}

#[test]
fn a_file_of_another_form_is_refused_with_its_line() {
    for (text, expected) in [
        ("return [];", "line 1: the file does not begin with <?php"),
        ("<?phpreturn [];", "line 1: the file does not begin with <?php"),
        ("<?php\n", "line 1: the file returns nothing"),
        ("<?php\n\nif (true) { return []; }", "line 3: a statement other than return or an assignment"),
        ("<?php\n$a = [1];\n$a[] = 2;\nreturn $a;", "line 3: a statement other than return or an assignment"),
        ("<?php\nuse function Foo\\env;\nreturn [];", "line 2: an imported function"),
        ("<?php\nnamespace A { return []; }", "line 2: a statement with a body"),
        ("<?php\nreturn ['a' => 'hush];\n", "line 2: a text is not closed"),
        ("<?php\nreturn [\n\"hush];\n", "line 3: a text is not closed"),
        ("<?php\nreturn [\n\"{$x hush\";\n", "line 3: a text is not closed"),
        ("<?php\nreturn [ /* hush", "line 2: a comment is not closed"),
        ("<?php\nreturn <<<EOT\nhush", "line 2: a heredoc is not closed"),
        ("<?php\nreturn ['a'\n;", "line 3: an array does not end where it should"),
        ("<?php\nreturn ['a', ];\nreturn 1 }", "line 3: brackets that do not match"),
        ("<?php\nreturn foo(];", "line 2: brackets that do not match"),
        ("<?php\nreturn foo([1;", "line 2: a bracket is not closed"),
        ("<?php\nreturn [, 1];", "line 2: a value is missing"),
        ("<?php\nreturn 1x;", "line 2: a number that PHP does not know"),
        ("<?php\nreturn \u{1};", "line 2: a character that PHP does not know"),
    ] {
        match parse(text) {
            Err(error) => assert_eq!(error.to_string(), expected, "{text:?}"),
            // Behind the `return` nothing is read.
            Ok(_) => assert!(text.contains("];\nreturn"), "{text:?}"),
        }
    }
    let deep = |levels: usize| parse(&format!("<?php return {}1{};", "[".repeat(levels), "]".repeat(levels)));
    assert!(deep(DEPTH_MAX - 1).is_ok());
    assert_eq!(deep(100_000).unwrap_err().problem, "the values are nested too deeply");
    for (open, close) in
        [("(", ")"), ("(int)", ""), ("env('a', ", ")"), ("1 ?: ", ""), ("1 ?? ", ""), ("\"{$a", "")]
    {
        // Nothing overflows the stack.
        drop(parse(&format!("<?php return {}1{};", open.repeat(100_000), close.repeat(100_000))));
    }
    assert!(parse(&format!("<?php{}return 1;", " ".repeat(BYTES_MAX))).is_err());
    assert!(parse("\u{feff}<?PHP return 1 ?> anything [").is_ok());
}

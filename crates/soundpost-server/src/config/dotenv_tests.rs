//! Every row of these tables is what phpdotenv 5.6 and Laravel's `env()` print for it; the process has `OUTER=outer`.

use std::{collections::BTreeMap, path::Path};

use super::{
    dotenv::{env, parse},
    php::Plain,
};

fn read(text: &str) -> Result<BTreeMap<String, String>, String> {
    let process = BTreeMap::from([("OUTER".to_owned(), "outer".to_owned())]);
    parse(text, Path::new(".env"), &process).map_err(|error| error.to_string())
}

#[test]
#[expect(clippy::too_many_lines, reason = "one line for each file")]
fn files_read_as_phpdotenv_reads_them() {
    let table: &[(&str, &[(&str, &str)])] = &[
        ("A=b", &[("A", "b")]),
        ("A = b", &[("A", "b")]),
        ("  A=b  ", &[("A", "b")]),
        ("\tA\t=\tb\t", &[("A", "b")]),
        ("export AB=b", &[("AB", "b")]),
        ("export  AB = b", &[("AB", "b")]),
        ("exportAB=b", &[("exportAB", "b")]),
        ("export\tAB=b", &[("AB", "b")]),
        ("\"A\"=b", &[("A", "b")]),
        ("\"AB\"=b", &[("AB", "b")]),
        ("'AB'=b", &[("AB", "b")]),
        ("export \"AB\"=b", &[("AB", "b")]),
        ("A=", &[("A", "")]),
        ("A= ", &[("A", "")]),
        ("A=\"\"", &[("A", "")]),
        ("A=''", &[("A", "")]),
        ("A", &[]),
        ("A=1\nA", &[]),
        ("NAME", &[]),
        ("A=b#c", &[("A", "b")]),
        ("A=b #c", &[("A", "b")]),
        ("A=b # c", &[("A", "b")]),
        ("A=#c", &[("A", "")]),
        ("A= #c", &[("A", "")]),
        ("A=\"b#c\" # d", &[("A", "b#c")]),
        ("A='b#c'#d", &[("A", "b#c")]),
        ("A=\"b\"#c", &[("A", "b")]),
        ("A=\"b c\"", &[("A", "b c")]),
        ("A='b \\n c'", &[("A", "b \\n c")]),
        ("A=\"b\\nc\"", &[("A", "b\nc")]),
        ("A=\"b\\\\n\\\"\\tx\"", &[("A", "b\\n\"\tx")]),
        ("A=\"\\f\\v\\r\"", &[("A", "\u{c}\u{b}\r")]),
        ("A='b\\'", &[("A", "b\\")]),
        ("A=b\\nc", &[("A", "b\\nc")]),
        ("A=b\"c\"d", &[("A", "b\"c\"d")]),
        ("A=it's", &[("A", "it's")]),
        ("A=\"it's\"", &[("A", "it's")]),
        ("A='say \"x\"'", &[("A", "say \"x\"")]),
        ("A=pa$word", &[("A", "pa$word")]),
        ("A=\"pa$word\"", &[("A", "pa$word")]),
        ("A='pa$word'", &[("A", "pa$word")]),
        ("A=pa\\$word", &[("A", "pa\\$word")]),
        ("A=\"pa\\$word\"", &[("A", "pa$word")]),
        ("A=$OUTER", &[("A", "$OUTER")]),
        ("A=${OUTER}", &[("A", "outer")]),
        ("A=\"<${OUTER}>\"", &[("A", "<outer>")]),
        ("A='${OUTER}'", &[("A", "${OUTER}")]),
        ("A=\"\\${OUTER}\"", &[("A", "${OUTER}")]),
        ("A=\\${OUTER}", &[("A", "\\outer")]),
        ("A=${MISSING}", &[("A", "${MISSING}")]),
        ("A=\"${MISSING}\"", &[("A", "${MISSING}")]),
        ("A=${OUT-ER}", &[("A", "${OUT-ER}")]),
        ("A=${}", &[("A", "${}")]),
        ("A=${OUTER", &[("A", "${OUTER")]),
        ("A=$${OUTER}", &[("A", "$outer")]),
        ("A=${${OUTER}}", &[("A", "${outer}")]),
        ("B=OUTER\nA=${${B}}", &[("B", "OUTER"), ("A", "outer")]),
        ("B=1\nA=\"${B}${OUTER}${B}\"", &[("B", "1"), ("A", "1outer1")]),
        ("A=${B}\nB=1", &[("A", "${B}"), ("B", "1")]),
        ("OUTER=inner\nA=${OUTER}", &[("A", "outer")]),
        ("B='${OUTER}'\nA=${B}", &[("B", "${OUTER}"), ("A", "${OUTER}")]),
        ("A=${A}", &[("A", "${A}")]),
        ("A=1\nA=${A}2", &[("A", "12")]),
        ("A=1\nA=2", &[("A", "2")]),
        ("A=b=c==", &[("A", "b=c==")]),
        ("A=base64:x+/=", &[("A", "base64:x+/=")]),
        ("A=http://x.test/?a=1&b=2", &[("A", "http://x.test/?a=1&b=2")]),
        ("A=\"one\ntwo\"", &[("A", "one\ntwo")]),
        ("A=\"one\n# two\n\"", &[("A", "one\n# two\n")]),
        ("A=\"one\n\\\"two\"", &[("A", "one\n\"two")]),
        ("A=\"one\n\n three\" # c", &[("A", "one\n\n three")]),
        ("A=\"one\nB=\"", &[("A", "one\nB=")]),
        ("# A=no\n\n\r\nA=b\r\n", &[("A", "b")]),
        ("A=b\rB=c\r", &[("A", "b"), ("B", "c")]),
        ("\u{feff}A=b", &[("A", "b")]),
        ("A=żółw", &[("A", "żółw")]),
        ("Ż=b\nA=c", &[("Ż", "b"), ("A", "c")]),
        ("A.B=c\nA=d", &[("A.B", "c"), ("A", "d")]),
        ("1A=c\nA=d", &[("1A", "c"), ("A", "d")]),
        ("A=b\u{a0}c", &[("A", "b\u{a0}c")]),
        ("A=b\u{2003}c", &[("A", "b\u{2003}c")]),
        ("A=b\u{0}c", &[("A", "b\u{0}c")]),
        ("A=b\u{b}", &[("A", "b")]),
        ("A=null", &[("A", "null")]),
        ("A=(null)", &[("A", "(null)")]),
        ("A=NULL", &[("A", "NULL")]),
        ("A=\"null\"", &[("A", "null")]),
        ("A='(null)'", &[("A", "(null)")]),
        ("A=true", &[("A", "true")]),
        ("A=(True)", &[("A", "(True)")]),
        ("A=\"true\"", &[("A", "true")]),
        ("A=false", &[("A", "false")]),
        ("A=(FALSE)", &[("A", "(FALSE)")]),
        ("A=empty", &[("A", "empty")]),
        ("A=(empty)", &[("A", "(empty)")]),
        ("A='\"x\"'", &[("A", "\"x\"")]),
        ("A=\"'x'\"", &[("A", "'x'")]),
        ("A='\"x'", &[("A", "\"x")]),
        ("A=\"\\\"x\\ny\\\"\"", &[("A", "\"x\ny\"")]),
        ("A=0", &[("A", "0")]),
        ("A=-1", &[("A", "-1")]),
        ("A=1.50", &[("A", "1.50")]),
        ("REDIS_PASSWORD=null\nA=${REDIS_PASSWORD}", &[("REDIS_PASSWORD", "null"), ("A", "null")]),
        ("A=`ls`", &[("A", "`ls`")]),
        ("A=$(ls)", &[("A", "$(ls)")]),
        ("A=b;c", &[("A", "b;c")]),
        ("A=b,c", &[("A", "b,c")]),
        ("A=[\"x\"]", &[("A", "[\"x\"]")]),
        ("A={\"x\":1}", &[("A", "{\"x\":1}")]),
        ("A=\"{\\\"x\\\":1}\"", &[("A", "{\"x\":1}")]),
        ("A==b", &[("A", "=b")]),
        ("A=\t# c", &[("A", "")]),
        ("A=b\t#c", &[("A", "b")]),
        ("#A=b", &[]),
        ("  # c\nA=b", &[("A", "b")]),
        ("A=a'b'c", &[("A", "a'b'c")]),
        ("A=\"\\\\\"", &[("A", "\\")]),
        ("A=\"x\\\\\" # y", &[("A", "x\\")]),
        ("A=a\\\"b", &[("A", "a\\\"b")]),
        ("A=\"x=\"", &[("A", "x=")]),
        ("A=\"x\" # it=\"s\nB=1", &[("A", "x"), ("B", "1")]),
    ];
    for (text, expected) in table {
        let mut found = read(text).unwrap();
        // The process's own wins wherever it is asked for.
        found.remove("OUTER");
        let expected = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        assert_eq!(found, expected.collect(), "{text:?}");
    }
}

#[test]
fn what_laravel_refuses_is_refused_with_line_and_name_and_no_value() {
    for (text, expected) in [
        ("export A=b", ".env:1: \"export A\" is not a variable's name"),
        ("\"A=b", ".env:1: \"\\\"A\" is not a variable's name"),
        ("A=1\n A", ".env:2: expected NAME=value"),
        ("AB CD", ".env:1: expected NAME=value"),
        ("=b", ".env:1: a name is missing before ="),
        ("A='b' c", ".env:1: A: a value with spaces needs quotes"),
        ("A=\"b\"c", ".env:1: A: a value with spaces needs quotes"),
        ("A=b c", ".env:1: A: a value with spaces needs quotes"),
        ("A=b \"c\"", ".env:1: A: a value with spaces needs quotes"),
        (
            "A=\"b\\qc\"",
            ".env:1: A: an escape other than \\\\ \\\" \\$ \\f \\n \\r \\t \\v; use single quotes",
        ),
        ("A='it\\'s'", ".env:1: A: a value with spaces needs quotes"),
        ("A=b\\ c", ".env:1: A: a value with spaces needs quotes"),
        ("A='open", ".env:1: A: a quote is not closed"),
        ("A=${ OUTER }", ".env:1: A: a value with spaces needs quotes"),
        ("A='one\ntwo'", ".env:1: A: a quote is not closed"),
        ("A=\"one\nB=\"two\"", ".env:1: A: a value with spaces needs quotes"),
        ("A=b\n\u{feff}B=c", ".env:2: \"\\u{feff}B\" is not a variable's name"),
        ("中=b\nA=c", ".env:1: \"中\" is not a variable's name"),
        ("A-B=c", ".env:1: \"A-B\" is not a variable's name"),
        ("A B=c", ".env:1: \"A B\" is not a variable's name"),
        ("A=b\u{c}c", ".env:1: A: a value with spaces needs quotes"),
        ("A\u{c}=c", ".env:1: \"A\\u{c}\" is not a variable's name"),
        ("; A=b", ".env:1: \"; A\" is not a variable's name"),
        ("// A=b", ".env:1: \"// A\" is not a variable's name"),
        ("A:b", ".env:1: expected NAME=value"),
        ("A: b", ".env:1: expected NAME=value"),
        ("A=\"a\"\"b\"", ".env:1: A: a value with spaces needs quotes"),
        ("A=''b", ".env:1: A: a value with spaces needs quotes"),
        ("A=x=\"y z\"\nB=c", ".env:1: A: a value with spaces needs quotes"),
    ] {
        assert_eq!(read(text).unwrap_err(), expected, "{text:?}");
    }
}

#[test]
fn what_laravel_drops_without_a_word_is_refused() {
    for (text, expected) in [
        ("A=\"b\\", ".env:1: A: a quoted value is not closed"),
        ("A=\"open", ".env:1: A: a quoted value is not closed"),
        ("A=\"a\nB=2", ".env:1: A: a quoted value is not closed"),
        ("A=\"one\n\"two", ".env:1: A: a quoted value is not closed"),
        ("A=x=\"y", ".env:1: A: a quoted value is not closed"),
        ("A='x=\"y'\nB=c", ".env:1: A: a quoted value is not closed"),
        ("# c=\"x\nA=b", ".env:1: a quoted value is not closed"),
    ] {
        assert_eq!(read(text).unwrap_err(), expected, "{text:?}");
    }
}

#[test]
fn env_turns_words_into_what_laravel_returns() {
    let text = |text: &str| Plain::Text(text.to_owned());
    for (file, expected) in [
        ("A=null", Plain::Null),
        ("A=(null)", Plain::Null),
        ("A=NULL", Plain::Null),
        ("A=\"null\"", Plain::Null),
        ("A='(null)'", Plain::Null),
        ("A=true", Plain::Boolean(true)),
        ("A=(True)", Plain::Boolean(true)),
        ("A=\"true\"", Plain::Boolean(true)),
        ("A=false", Plain::Boolean(false)),
        ("A=(FALSE)", Plain::Boolean(false)),
        ("A=empty", text("")),
        ("A=(empty)", text("")),
        ("A='\"x\"'", text("x")),
        ("A=\"'x'\"", text("x")),
        ("A='\"x'", text("\"x")),
        ("A=\"\\\"x\\ny\\\"\"", text("\"x\ny\"")),
        ("A='\"'", text("\"")),
        ("A=", text("")),
        ("A=0", text("0")),
        ("A=b", text("b")),
    ] {
        assert_eq!(env(&read(file).unwrap()["A"]), expected, "{file:?}");
    }
}

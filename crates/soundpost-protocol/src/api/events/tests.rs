use proptest::prelude::*;

use super::*;
use crate::app::{AppId, AppKey, AppSecret, JSON_DEPTH_MAX};

fn app() -> App {
    App::new(AppId::parse("1").unwrap(), AppKey::parse("k").unwrap(), AppSecret::new("s"))
}

fn trigger(body: &str) -> Result<Trigger<'_>, ApiError> {
    parse_trigger(body.as_bytes(), &app())
}

fn names(trigger: &Trigger<'_>) -> Vec<String> {
    trigger.channels.iter().map(ToString::to_string).collect()
}

/// Status and text of the refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T, ApiError>) -> (u16, String) {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert!(!text.contains(['\n', '\r']) && !text.ends_with('.'), "{text}");
    (error.status(), text)
}

#[test]
fn an_event_as_the_sdks_send_it() {
    let php = r#"{"name":"order.updated","channel":"private-orders.1","data":"{\"id\":1}"}"#;
    let read = trigger(php).unwrap();
    assert!(matches!(read.name, Cow::Borrowed("order.updated")));
    assert_eq!(names(&read), ["private-orders.1"]);
    assert_eq!(read.data.json(), r#""{\"id\":1}""#);
    assert_eq!((read.socket_id, read.info), (None, Info::default()));

    let node = r#" {"data":"","name":"n","channels":["b","a"],"socket_id":"1234.5678","info":"user_count"} "#;
    let read = trigger(node).unwrap();
    assert_eq!(names(&read), ["b", "a"]);
    assert_eq!(read.data.json(), r#""""#);
    assert_eq!(read.socket_id, Some(SocketId { left: 1234, right: 5678 }));
    assert_eq!(read.info, Info { user_count: true, ..Info::default() });
}

#[test]
fn channels_are_one_name_or_a_list_each_once_and_win_over_channel() {
    for (fields, expected) in [
        (r#""channels":["a","b","a","b","c"]"#, &["a", "b", "c"][..]),
        (r#""channels":["a"],"channel":"b""#, &["a"]),
        (r#""channel":"b","channels":["a"]"#, &["a"]),
        (r#""channels":"a""#, &["a"]),
        (r#""channel":["a","b"]"#, &["a", "b"]),
        (r#""channels":null,"channel":"b""#, &["b"]),
        (r##""channels":["#server-to-user-42"]"##, &["#server-to-user-42"]),
        (r#""channels":["\u0061","a"]"#, &["a"]),
        (r#""channels":["private-encrypted-a","presence-b"]"#, &["private-encrypted-a", "presence-b"]),
    ] {
        let body = format!(r#"{{"name":"n","data":"x",{fields}}}"#);
        assert_eq!(names(&trigger(&body).unwrap()), expected, "{body}");
    }
}

#[test]
fn what_is_odd_but_harmless_is_taken() {
    for (body, name, data) in [
        (r#"{"name":"client-x","channel":"a","data":"x"}"#, "client-x", r#""x""#),
        (r#"{"name":"pusher","channel":"a","data":"x"}"#, "pusher", r#""x""#),
        (r#"{"name":"\u0061\ud83d\ude00","channel":"a","data":"x"}"#, "a😀", r#""x""#),
        (r#"{"name":"n","channel":"a","data":null}"#, "n", r#""null""#),
        (
            r#"{"name":"n","channel":"a","data": { "k" : [1, "\u00eb"] } }"#,
            "n",
            r#""{ \"k\" : [1, \"\\u00eb\"] }""#,
        ),
        (r#"{"name":"n","channel":"a","data":"\ud83d lone \udc00"}"#, "n", r#""\ud83d lone \udc00""#),
        (r#"{"name":"n","channel":"a","data":"x","socket_id":null,"info":null}"#, "n", r#""x""#),
        (r#"{"n\u0061me":"n","channel":"a","data":"x","tags":{"a":[1]},"delta":1,"tags":2}"#, "n", r#""x""#),
    ] {
        let read = trigger(body).unwrap();
        assert_eq!((&*read.name, read.data.json()), (name, data), "{body}");
    }
}

#[test]
fn each_refusal_of_an_event_names_the_field() {
    let hundred_and_one =
        format!(r#"{{"name":"n","data":"","channels":[{}]}}"#, vec![r#""a""#; 101].join(","));
    for (body, text) in [
        ("", "a JSON object is expected"),
        ("null", "a JSON object is expected"),
        (r#"["n","a",null,"x",null,null]"#, "a JSON object is expected"),
        (r#"{"name":"n""#, "not valid JSON: EOF while parsing an object at line 1 column 11"),
        (r#"{} {}"#, "not valid JSON: trailing characters at line 1 column 4"),
        (r#"{"name":"n","name":"m"}"#, "not valid JSON: duplicate field `name` at line 1 column 18"),
        (r#"{}"#, "name is missing"),
        (r#"{"name":null,"channel":"a","data":"x"}"#, "name is missing"),
        (r#"{"name":1,"channel":"a","data":"x"}"#, "name must be a string"),
        (r#"{"name":"\ud83d","channel":"a","data":"x"}"#, "name must be a string"),
        (r#"{"name":"","channel":"a","data":"x"}"#, "name is empty"),
        (
            r#"{"name":"pusher:x","channel":"a","data":"x"}"#,
            "name starts with pusher:, which is reserved for the server's own events",
        ),
        (
            r#"{"name":"pusher_internal\u003ax","channel":"a","data":"x"}"#,
            "name starts with pusher_internal:, which is reserved for the server's own events",
        ),
        (r#"{"name":"n","data":"x"}"#, "channels is missing"),
        (r#"{"name":"n","data":"x","channels":[],"channel":"a"}"#, "channels is empty; name at least one"),
        (
            r#"{"name":"n","data":"x","channels":{"0":"a"}}"#,
            "channels must be a channel name or an array of them",
        ),
        (
            r#"{"name":"n","data":"x","channels":["a",1]}"#,
            "channels must be a channel name or an array of them",
        ),
        (r#"{"name":"n","data":"x","channel":7}"#, "channel must be a channel name or an array of them"),
        (
            r#"{"name":"n","data":"x","channels":["a","b c"]}"#,
            "channels[1]: channel name contains ' '; allowed are A-Z a-z 0-9 and _ - = @ , . ;",
        ),
        (r#"{"name":"n","data":"x","channel":""}"#, "channel name is empty"),
        (&hundred_and_one, "channels has 101 names, more than 100; send them in several requests"),
        (r#"{"name":"n","channel":"a"}"#, "data is missing"),
        (r#"{"name":"n","channel":"a","data":"x","socket_id":1.5}"#, "socket_id must be a string"),
        (
            r#"{"name":"n","channel":"a","data":"x","socket_id":"1.5.1"}"#,
            "socket_id must be two numbers joined by a dot, such as 1234.5678",
        ),
        (r#"{"name":"n","channel":"a","data":"x","info":["user_count"]}"#, "info must be a string"),
        (
            r#"{"name":"n","channel":"a","data":"x","info":"user_count,x\n"}"#,
            "info asks for \"x\"; there are user_count, subscription_count and cache",
        ),
    ] {
        assert_eq!(refusal(trigger(body)), (400, text.to_owned()), "{body}");
    }
    let body = b"{\"name\":\"\xff\"}";
    let text = "request body is not UTF-8; the first 9 bytes are";
    assert_eq!(refusal(parse_trigger(body, &app())), (400, text.to_owned()));
}

#[test]
fn a_name_is_counted_in_characters() {
    let with_name = |name: &str| format!(r#"{{"name":"{name}","channel":"a","data":"x"}}"#);
    for name in ["n".repeat(200), "ë".repeat(200), r"\u00eb".repeat(200), r"\ud83d\ude00".repeat(200)] {
        assert!(trigger(&with_name(&name)).is_ok(), "{name}");
        let text = "name has 201 characters, more than 200 (event_name_chars_max)";
        assert_eq!(refusal(trigger(&with_name(&format!("{name}n")))), (400, text.to_owned()));
    }
}

#[test]
fn data_is_measured_decoded() {
    let with_data = |data: &str| format!(r#"{{"name":"n","channel":"a","data":{data}}}"#);
    let text = "data has 102401 bytes, more than 102400 (event_data_bytes_max)";
    for (unit, bytes) in [("x", 1), ("ë", 2), (r"\u00eb", 2), (r"\n", 1), (r"\ud83d\ude00", 4)] {
        let fitting = unit.repeat(102_400 / bytes);
        assert!(trigger(&with_data(&format!("\"{fitting}\""))).is_ok(), "{unit}");
        assert_eq!(
            refusal(trigger(&with_data(&format!("\"{fitting}x\"")))),
            (413, text.to_owned()),
            "{unit}"
        );
    }
    // What is no string is measured as the string that it becomes.
    let array = |bytes: usize| with_data(&format!("[{}]", " ".repeat(bytes - 2)));
    assert!(trigger(&array(102_400)).is_ok());
    assert_eq!(refusal(trigger(&array(102_401))), (413, text.to_owned()));
}

#[test]
fn a_hundred_channels_are_enough() {
    let list: Vec<String> = (0..100).map(|n| format!("\"c{n}\"")).collect();
    let body = format!(r#"{{"name":"n","data":"","channels":[{}]}}"#, list.join(","));
    assert_eq!(trigger(&body).unwrap().channels.len(), 100);
}

#[test]
fn nesting_is_bounded_wherever_it_stands() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for field in ["data", "tags", "name", "channels"] {
        let body = |depth| {
            let value = nested(depth);
            format!(r#"{{"name":"n","channel":"a","data":"x","{field}":{value}}}"#)
        };
        let text = "request body nests more than 128 arrays and objects";
        assert_eq!(refusal(trigger(&body(JSON_DEPTH_MAX))), (400, text.to_owned()), "{field}");
        assert_ne!(trigger(&body(JSON_DEPTH_MAX - 1)), Err(ApiError::TooDeep), "{field}");
    }
    let body = format!(r#"{{"name":"n","channel":"a","data":{}}}"#, nested(JSON_DEPTH_MAX - 1));
    assert!(trigger(&body).is_ok());
}

#[test]
fn no_nesting_overflows_the_stack() {
    let run = || {
        for open in ["[", "{\"a\":", "[{\"a\":"] {
            let deep = open.repeat(200_000);
            for body in [
                deep.clone(),
                format!(r#"{{"name":"n","channel":"a","data":{deep}"#),
                format!(r#"{{"name":"n","channel":"a","data":"x","unknown":{deep}"#),
                format!(r#"{{"batch":{deep}"#),
            ] {
                assert_eq!(trigger(&body), Err(ApiError::TooDeep));
                assert_eq!(parse_batch(body.as_bytes(), &app()), Err(ApiError::TooDeep));
                // The parser behind the check would not fall either.
                assert!(object::<Written<'_>>(&body).is_err());
                assert!(object::<WrittenBatch<'_>>(&body).is_err());
            }
        }
        let whole = format!("{{\"data\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert!(object::<Written<'_>>(&whole).is_ok());
    };
    std::thread::Builder::new().stack_size(128 * 1024).spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_batch_comes_back_whole_and_in_order() {
    let body = r#"{"batch":[{"channel":"orders","name":"n","data":"1","info":"subscription_count"},
        {"channels":["b","c"],"name":"m","data":{"a":1},"socket_id":"1.2"}]}"#;
    let batch = parse_batch(body.as_bytes(), &app()).unwrap();
    assert_eq!(batch.iter().map(|item| &*item.name).collect::<Vec<_>>(), ["n", "m"]);
    assert_eq!(batch.iter().map(names).collect::<Vec<_>>(), [vec!["orders"], vec!["b", "c"]]);
    assert_eq!(batch[1].data.json(), r#""{\"a\":1}""#);
    assert_eq!(parse_batch(br#"{"batch":[]}"#, &app()), Ok(vec![]));
    let item = r#"{"channel":"a","name":"n","data":""}"#;
    let ten = format!(r#"{{"batch":[{}]}}"#, [item; 10].join(","));
    assert_eq!(parse_batch(ten.as_bytes(), &app()).unwrap().len(), 10);
}

#[test]
fn one_bad_event_refuses_the_batch_under_its_index() {
    let good = r#"{"channel":"a","name":"n","data":""}"#;
    let eleven = [good; 11].join(",");
    let big = format!(r#"{good},{{"channel":"a","name":"n","data":"{}"}}"#, "x".repeat(102_401));
    for (items, status, text) in [
        (r#"{"channel":"a","data":""}"#, 400, "batch[0]: name is missing"),
        (&format!("{good},7"), 400, "batch[1]: a JSON object is expected"),
        (&format!(r#"{good},["n","a",null,"x"]"#), 400, "batch[1]: a JSON object is expected"),
        (&format!("{good},{good},{{}}"), 400, "batch[2]: name is missing"),
        (
            r#"{"name":"n","name":"n"}"#,
            400,
            "batch[0]: not valid JSON: duplicate field `name` at line 1 column 18",
        ),
        (&big, 413, "batch[1]: data has 102401 bytes, more than 102400 (event_data_bytes_max)"),
        (&eleven, 400, "batch has 11 events, more than 10; send them in several requests"),
    ] {
        let body = format!(r#"{{"batch":[{items}]}}"#);
        assert_eq!(refusal(parse_batch(body.as_bytes(), &app())), (status, text.to_owned()));
    }
    for (body, text) in [
        ("[]", "a JSON object is expected"),
        ("{}", "batch is missing"),
        (r#"{"batch":null}"#, "batch is missing"),
        (r#"{"batch":{"0":{}}}"#, "batch must be an array of events"),
        (r#"{"batch":"x"}"#, "batch must be an array of events"),
    ] {
        assert_eq!(refusal(parse_batch(body.as_bytes(), &app())), (400, text.to_owned()), "{body}");
    }
}

/// Text that looks like the body of a request.
fn json_like() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u",
        "d83d",
        "null",
        "1e9",
        "\"name\":",
        "\"n\"",
        "\"data\":",
        "\"channels\":",
        "\"channel\":\"a\"",
        "\"batch\":[",
        "\"socket_id\":\"1.2\"",
        "\"info\":",
        " ",
        "é",
    ]);
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse_trigger(&body, &app()).is_err());
        prop_assert!(parse_batch(&body, &app()).is_err());
    }

    #[test]
    fn no_text_panics(body in json_like()) {
        for body in [body.clone(), format!("{{{body}}}")] {
            if let Err(error) = trigger(&body) {
                prop_assert!(!error.to_string().contains('\n'));
            }
            if let Err(error) = parse_batch(body.as_bytes(), &app()) {
                prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }

    #[test]
    fn a_string_passes_through_byte_for_byte(
        units in prop::collection::vec(
            prop_oneof!["[^\"\\\\\\p{Cc}]", "\\\\[\"\\\\/bfnrt]", "\\\\u[0-9a-fA-F]{4}"],
            0..50,
        ),
    ) {
        let literal = format!("\"{}\"", units.concat());
        let body = format!(r#"{{"name":"n","data":{literal},"channel":"a"}}"#);
        let read = trigger(&body).unwrap();
        prop_assert_eq!(read.data.json(), &literal);
        if let Ok(decoded) = serde_json::from_str::<String>(&literal) {
            prop_assert_eq!(read.data.decoded_bytes(), decoded.len());
        }
    }

    #[test]
    fn any_other_value_becomes_the_string_of_its_text(
        value in "0|[1-9][0-9]{0,2}|true|null|\\[( |1,)*1\\]|\\{ \"a\\\\u00eb\" :\t\"[a-z]*\"\n\\}",
    ) {
        let body = format!(r#"{{"name":"n","data":{value},"channel":"a"}}"#);
        let read = trigger(&body).unwrap();
        prop_assert_eq!(read.data.decoded_bytes(), value.len());
        prop_assert_eq!(serde_json::from_str::<String>(read.data.json()).unwrap(), value);
    }
}

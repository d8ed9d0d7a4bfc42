//! Query strings, decoded and in the order in which they are signed.

use std::borrow::Cow;

use super::{ApiError, error::excerpt};

/// Parameters in one query string; the SDKs send five, queries about channels two more.
pub const QUERY_PARAMETERS_MAX: usize = 64;

/// A query string, decoded like a form (`%XX` and `+`; a `%` that starts no escape stands for itself).
///
/// Keys are lowercase and sorted by their bytes. A list, `k[]=a&k[]=b` or `k[0]=a&k[1]=b`, is one parameter `k` with
/// the value `a,b`, in the order written. Source: Pusher docs, "Authentication signatures"; PHP SDK, `array_implode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query<'a>(Vec<Parameter<'a>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parameter<'a> {
    key: Cow<'a, str>,
    value: Cow<'a, str>,
    is_list: bool,
}

impl<'a> Query<'a> {
    /// Decodes `raw`, what follows the `?` of a request; empty if there is none.
    ///
    /// Errors: [`ApiError::QueryTooLong`] above [`QUERY_PARAMETERS_MAX`], [`ApiError::QueryRepeated`] for a parameter
    /// given twice that is no list, [`ApiError::QueryNotUtf8`].
    pub fn parse(raw: &'a str) -> Result<Self, ApiError> {
        let mut query = Self(Vec::with_capacity(8));
        for (written, pair) in raw.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            if written >= QUERY_PARAMETERS_MAX {
                return Err(ApiError::QueryTooLong { parameters_max: QUERY_PARAMETERS_MAX });
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = decode(key, Escapes::Form).ok_or(ApiError::QueryNotUtf8)?;
            let value = decode(value, Escapes::Form).ok_or(ApiError::QueryNotUtf8)?;
            let (key, is_list) = without_index(key);
            query.insert(Parameter { key: lowercase(key), value, is_list })?;
        }
        Ok(query)
    }

    /// The value of `key`, which is lowercase; a list is joined by commas.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|parameter| parameter.key == key).map(|parameter| &*parameter.value)
    }

    /// Appends `key=value` of every parameter but `auth_signature`, joined by `&`.
    pub(super) fn push_signed<'q>(&'q self, parts: &mut Vec<&'q [u8]>) {
        let mut between: &[u8] = b"";
        for parameter in self.0.iter().filter(|parameter| parameter.key != "auth_signature") {
            parts.extend([between, parameter.key.as_bytes(), b"=", parameter.value.as_bytes()]);
            between = b"&";
        }
    }

    /// Puts `new` where it sorts. SDKs send parameters sorted, so the search starts at the end.
    fn insert(&mut self, new: Parameter<'a>) -> Result<(), ApiError> {
        let at = self.0.iter().rposition(|old| old.key <= new.key);
        match at.and_then(|at| self.0.get_mut(at)) {
            Some(old) if old.key == new.key => {
                if !(old.is_list && new.is_list) {
                    return Err(ApiError::QueryRepeated { key: excerpt(&new.key, 60) });
                }
                let list = old.value.to_mut();
                list.push(',');
                list.push_str(&new.value);
            }
            _ => self.0.insert(at.map_or(0, |at| at + 1), new),
        }
        Ok(())
    }
}

/// `k[]` and `k[17]` name the list `k`; every other key is itself.
fn without_index(key: Cow<'_, str>) -> (Cow<'_, str>, bool) {
    let name = key
        .strip_suffix(']')
        .and_then(|rest| rest.rsplit_once('['))
        .filter(|(_, index)| index.bytes().all(|byte| byte.is_ascii_digit()))
        .map(|(name, _)| name.len());
    match (name, key) {
        (None, key) => (key, false),
        (Some(end), Cow::Borrowed(key)) => (Cow::Borrowed(key.get(..end).unwrap_or(key)), true),
        (Some(end), Cow::Owned(mut key)) => {
            key.truncate(end);
            (Cow::Owned(key), true)
        }
    }
}

fn lowercase(mut key: Cow<'_, str>) -> Cow<'_, str> {
    if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
        key.to_mut().make_ascii_lowercase();
    }
    key
}

/// Decodes one segment of a path, in which `+` is a plus. `None` if an escape is broken or the result is not UTF-8.
pub fn percent_decode(segment: &str) -> Option<Cow<'_, str>> {
    decode(segment, Escapes::Path)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    /// `%XX`, each well-formed.
    Path,
    /// `%XX` and `+` for a space; a broken escape stands for itself, as for every form decoder.
    Form,
}

fn decode(text: &str, escapes: Escapes) -> Option<Cow<'_, str>> {
    let is_form = escapes == Escapes::Form;
    if !text.bytes().any(|byte| byte == b'%' || (is_form && byte == b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => match escaped(after) {
                Some((escaped, after)) => {
                    bytes.push(escaped);
                    rest = after;
                }
                None if is_form => bytes.push(b'%'),
                None => return None,
            },
            b'+' if is_form => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// The byte that two hex digits spell, and what follows them.
fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let ([high, low], rest) = text.split_first_chunk()?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(*high)? << 4 | digit(*low)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signed(raw: &str) -> String {
        let query = Query::parse(raw).unwrap();
        let mut parts = Vec::new();
        query.push_signed(&mut parts);
        String::from_utf8(parts.concat()).unwrap()
    }

    #[test]
    fn parameters_are_signed_decoded_lowercase_and_sorted() {
        for (raw, expected) in [
            ("", ""),
            ("&&", ""),
            ("b=2&a=1", "a=1&b=2"),
            ("B=X&a=1&auth_signature=ff", "a=1&b=X"),
            ("info=user_count%2Csubscription_count", "info=user_count,subscription_count"),
            ("info=user_count,subscription_count", "info=user_count,subscription_count"),
            ("k[]=a&k[]=b", "k=a,b"),
            ("k[0]=a&k[1]=b", "k=a,b"),
            ("k%5B0%5D=a&K%5b1%5d=b", "k=a,b"),
            ("k[1]=b&a=1&k[0]=a", "a=1&k=b,a"),
            ("k[]=a", "k=a"),
            ("k[x]=a", "k[x]=a"),
            ("a=1=2&b&c=", "a=1=2&b=&c="),
            ("a=x+y%20z", "a=x y z"),
            ("a=100%&b=%zz&c=%4", "a=100%&b=%zz&c=%4"),
            ("a=Zo%C3%AB", "a=Zoë"),
        ] {
            assert_eq!(signed(raw), expected, "{raw}");
        }
    }

    #[test]
    fn values_are_found_by_lowercase_key() {
        let query = Query::parse("Info=cache&k[]=1&k[]=2&e=").unwrap();
        assert_eq!(query.value("info"), Some("cache"));
        assert_eq!(query.value("k"), Some("1,2"));
        assert_eq!(query.value("e"), Some(""));
        assert_eq!(query.value("x"), None);
    }

    #[test]
    fn a_query_that_nobody_can_read_for_certain_is_refused() {
        let repeated = || Err(ApiError::QueryRepeated { key: "a".to_owned() });
        for raw in ["a=1&a=1", "a=1&b=2&A=3", "a=1&a[]=2", "a[]=1&a=2"] {
            assert_eq!(Query::parse(raw), repeated(), "{raw}");
        }
        assert_eq!(Query::parse("a=%FF"), Err(ApiError::QueryNotUtf8));
        assert_eq!(Query::parse("%c3=a"), Err(ApiError::QueryNotUtf8));
        let many = |count: usize| (0..count).map(|n| format!("k{n}=&")).collect::<String>();
        assert!(Query::parse(&many(QUERY_PARAMETERS_MAX)).is_ok());
        let expected = ApiError::QueryTooLong { parameters_max: QUERY_PARAMETERS_MAX };
        assert_eq!(Query::parse(&many(QUERY_PARAMETERS_MAX + 1)), Err(expected.clone()));
        assert_eq!(Query::parse(&"k[]=x&".repeat(QUERY_PARAMETERS_MAX + 1)), Err(expected));
    }

    #[test]
    fn path_segments_are_decoded_strictly() {
        for (segment, expected) in [
            ("orders", Some("orders")),
            ("%23server-to-user-1", Some("#server-to-user-1")),
            ("a+b%2Bc", Some("a+b+c")),
            ("Zo%c3%Ab", Some("Zoë")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%FF", None),
        ] {
            assert_eq!(percent_decode(segment).as_deref(), expected, "{segment}");
        }
        assert!(matches!(percent_decode("plain"), Some(Cow::Borrowed(_))));
    }

    proptest! {
        #[test]
        fn escaping_every_byte_changes_nothing(text in "\\PC{0,40}") {
            let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(percent_decode(&escaped), Some(Cow::Borrowed(&*text)));
            let raw = format!("k={escaped}");
            let query = Query::parse(&raw).unwrap();
            prop_assert_eq!(query.value("k"), Some(&*text));
        }

        #[test]
        fn no_query_panics(raw in "(\\PC|[a-c%&=+\\[\\]0-9])*") {
            if let Ok(query) = Query::parse(&raw) {
                prop_assert!(query.0.is_sorted_by(|a, b| a.key < b.key));
            }
        }
    }
}

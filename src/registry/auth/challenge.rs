//! The `WWW-Authenticate` header (RFC 9110, section 11.6.1).
//!
//! One header line can have several challenges, and a response several lines. Unknown schemes are ignored.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// A way to authenticate that a registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password.
    Basic,
    /// A token of a token service.
    Bearer(Bearer),
}

/// Which token service issues tokens, and for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) realm: String,
    pub(crate) service: Option<String>,
    pub(crate) scope: Option<String>,
}

/// The challenges of a response, in order.
pub(crate) fn read(headers: &HeaderMap) -> Vec<Challenge> {
    let lines = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(challenges).collect()
}

fn challenges(line: &str) -> Vec<Challenge> {
    // `None` stands for an unknown scheme, whose parameters are ignored as well.
    let mut found: Vec<Option<Challenge>> = Vec::new();
    for item in items(line) {
        let (scheme, parameter) = match item.split_once(char::is_whitespace) {
            // `Bearer realm="…"`: a scheme and its first parameter.
            Some((word, rest)) if !word.contains('=') => (Some(word), rest.trim_start()),
            _ if !item.contains('=') => (Some(item), ""),
            _ => (None, item),
        };
        found.extend(scheme.map(|scheme| match scheme.to_ascii_lowercase().as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => Some(Challenge::Bearer(Bearer::default())),
            _ => None,
        }));
        if let (Some((name, value)), Some(Some(Challenge::Bearer(bearer)))) =
            (parameter.split_once('='), found.last_mut())
        {
            let value = unquote(value.trim());
            match name.trim().to_ascii_lowercase().as_str() {
                "realm" => bearer.realm = value,
                "service" => bearer.service = Some(value),
                "scope" => bearer.scope = Some(value),
                _ => {}
            }
        }
    }
    found.into_iter().flatten().collect()
}

/// The parts between commas that are not in quotes.
fn items(line: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    line.split(move |character| {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    })
    .map(str::trim)
    .filter(|item| !item.is_empty())
}

fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut plain = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: &str| text.to_owned();
        Challenge::Bearer(Bearer {
            realm: realm.into(),
            service: service.map(owned),
            scope: scope.map(owned),
        })
    }

    #[test]
    fn challenges_of_registries_are_parsed() {
        for (line, expected) in [
            ("", vec![]),
            ("Basic realm=\"Registry Realm\"", vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            ("Negotiate", vec![]),
            (
                "Bearer realm=\"https://quay.io/v2/auth\",service=\"quay.io\",scope=\"repository:a/b:pull,push\"",
                vec![bearer("https://quay.io/v2/auth", Some("quay.io"), Some("repository:a/b:pull,push"))],
            ),
            ("BEARER Realm = \"https://a/t\" , service=b", vec![bearer("https://a/t", Some("b"), None)]),
            (
                "Basic realm=\"x\", Bearer realm=\"https://a/t\"",
                vec![Challenge::Basic, bearer("https://a/t", None, None)],
            ),
            ("Bearer realm=\"https://a/\\\"t\\\\\"", vec![bearer("https://a/\"t\\", None, None)]),
            ("Bearer realm=\"unclosed", vec![bearer("\"unclosed", None, None)]),
        ] {
            assert_eq!(challenges(line), expected, "{line}");
        }
    }

    #[test]
    fn each_line_can_have_a_challenge() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"a\""));
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"https://b\""));
        assert_eq!(read(&headers), [Challenge::Basic, bearer("https://b", None, None)]);
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line in ".*") {
            challenges(&line);
        }
    }
}

//! What a part of a form calls its file. Programs write one name in several ways: browsers put `%22` for a quotation mark, others a
//! second name beside the first where that one cannot hold all letters.

use axum::http::{HeaderMap, header};

/// The file's name, from a part's head and the `filename` that the form's parser found there. `filename*` (RFC 8187) goes before
/// it, as it does in RFC 6266: where both are there, the other one is a makeshift. None where there is none, or an empty one.
pub fn of(headers: &HeaderMap, plain: Option<&str>) -> Option<String> {
    let disposition = headers.get(header::CONTENT_DISPOSITION).map(|value| value.as_bytes());
    let name = disposition.and_then(extended).or_else(|| plain.map(browsers));
    name.filter(|name| !name.is_empty())
}

/// A name as browsers write it: the HTML standard has them put these three letters so, and no others.
fn browsers(name: &str) -> String {
    name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n")
}

/// The value of `filename*`, where it is UTF-8.
fn extended(disposition: &[u8]) -> Option<String> {
    let named = parameters(disposition).into_iter().find_map(|parameter| {
        let at = parameter.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (parameter[..at].trim_ascii(), parameter[at + 1..].trim_ascii());
        name.eq_ignore_ascii_case(b"filename*").then_some(value)
    })?;
    // It is to stand there without quotation marks, which not everybody knows.
    let value = std::str::from_utf8(named).ok()?.trim_matches('"');
    let (charset, rest) = value.split_once('\'')?;
    let (_language, encoded) = rest.split_once('\'')?;
    charset.eq_ignore_ascii_case("utf-8").then(|| decoded(encoded))?
}

/// What stands between the semicolons outside of quotation marks.
fn parameters(disposition: &[u8]) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let between = |byte: &u8| {
        let ends = *byte == b';' && !quoted;
        quoted ^= *byte == b'"' && !escaped;
        escaped = quoted && *byte == b'\\' && !escaped;
        ends
    };
    disposition.split(between).collect()
}

/// Bytes that are written as `%` and two hexadecimal digits, or as they are.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_first_chunk::<2>()?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        bytes.push(u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn name(disposition: &str, plain: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_bytes(disposition.as_bytes()).unwrap());
        of(&headers, plain)
    }

    #[test]
    fn the_second_name_is_read() {
        for disposition in [
            "form-data; name=\"image\"; filename*=UTF-8''%C3%A9%20%22.png",
            "form-data; name=image; FileName* = utf-8'en'%c3%a9%20%22.png",
            "form-data; name=\"image\"; filename=\"=?utf-8?B?w6k=?=\"; filename*=utf-8''%C3%A9%20%22.png",
            "form-data; name=\"image\"; filename*=\"UTF-8''%C3%A9%20%22.png\"",
            "form-data; name=\"a;\\\";filename*=UTF-8''x\"; filename*=UTF-8''%C3%A9%20%22.png",
        ] {
            assert_eq!(name(disposition, Some("makeshift")).as_deref(), Some("é \".png"), "{disposition}");
        }
    }

    #[test]
    fn without_a_second_name_it_is_the_first_with_what_browsers_encode() {
        for disposition in [
            "form-data; name=\"image\"",
            "form-data; filename*=UTF-8''%C3",
            "form-data; filename*=UTF-8''%2",
            "form-data; filename*=UTF-8''%zz",
            "form-data; filename*=ISO-8859-1''%E9",
            "form-data; filename*=plain",
            "form-data; filename*",
            "form-data; name=\"; filename*=UTF-8''x\"",
        ] {
            assert_eq!(
                name(disposition, Some("a%22b%0D%0A%20%2f")).as_deref(),
                Some("a\"b\r\n%20%2f"),
                "{disposition}"
            );
            assert_eq!(name(disposition, None), None, "{disposition}");
            assert_eq!(name(disposition, Some("")), None, "{disposition}");
        }
    }
}

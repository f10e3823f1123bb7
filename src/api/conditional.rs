//! Files whose bytes are named by their hash, asked for on a condition or in part (RFC 9110 §13 and §14): what a caller has already
//! is not sent again, and a download that broke off goes on where it ended. `If-Match` is not looked at: `If-Range` is what keeps two
//! files apart.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;

/// The entity tag of bytes with this hash.
pub fn etag(sha256: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{sha256}\"")).expect("hexadecimal digits are plain ASCII")
}

/// Whether the caller has this already: `If-None-Match` names the tag, in a list, weakly or not, or is `*`.
pub fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    // No tag of ours has a comma in it, so that one of somebody else's that has is no match in either half.
    let named =
        headers.get_all(header::IF_NONE_MATCH).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    named.map(<[u8]>::trim_ascii).any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

/// 304 for what the caller has already.
pub fn not_modified(etag: HeaderValue) -> Response {
    // Of an empty body the length would be told, and that of a 304 is to be that of the file.
    let body = Body::from_stream(futures::stream::empty::<Result<Bytes, std::convert::Infallible>>());
    (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)], body).into_response()
}

/// How much of a file is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// From the first to the last of these bytes, counted from 0.
    Bytes {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
}

impl Part {
    /// What `Range` asks for, of a file with this tag and so many bytes. What is no single range of bytes, and a range of a file
    /// that is another by now (`If-Range`), is answered with all of it.
    ///
    /// # Errors
    /// 416 for a range behind the file's end.
    pub fn of(method: &Method, headers: &HeaderMap, etag: &HeaderValue, length: u64) -> Result<Self, Problem> {
        // A date is no tag of ours: then the whole file is the safe answer.
        let same = headers.get(header::IF_RANGE).is_none_or(|tag| tag == etag);
        let range = headers.get(header::RANGE).filter(|_| *method == Method::GET && same);
        let Some((first, last)) = range.and_then(|range| bounds(range.to_str().ok()?)) else { return Ok(Self::Whole) };
        match (first, last) {
            (Some(first), last) if first < length => {
                Ok(Self::Bytes { first, last: last.map_or(length - 1, |last| last.min(length - 1)) })
            }
            (None, Some(most)) if most > 0 && length > 0 => {
                Ok(Self::Bytes { first: length.saturating_sub(most), last: length - 1 })
            }
            _ => {
                let all = HeaderValue::from_str(&format!("bytes */{length}")).expect("digits are plain ASCII");
                let detail = format!("the file has {length} bytes, and none in this range");
                let problem =
                    Problem::range_not_satisfiable(detail.clone()).with_error("Range", "out_of_range", detail);
                Err(problem.with_header(header::CONTENT_RANGE, all))
            }
        }
    }
}

/// `bytes=a-b`, `bytes=a-` (no end) or `bytes=-n` (no beginning); none where it is anything else.
fn bounds(range: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, range) = range.split_once('=')?;
    let (first, last) = range.trim().split_once('-').filter(|_| unit.trim().eq_ignore_ascii_case("bytes"))?;
    let number = |text: &str| match text {
        "" => Some(None),
        // More digits than a number has room for are behind every end.
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => Some(Some(text.parse().unwrap_or(u64::MAX))),
        _ => None,
    };
    match (number(first)?, number(last)?) {
        (None, None) => None,
        (Some(first), Some(last)) if first > last => None,
        bounds => Some(bounds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_tag_is_known_in_a_list_weakly_and_by_the_asterisk() {
        let tag = etag("ab12");
        let known = |value: &'static str| is_known(&headers(&[(header::IF_NONE_MATCH, value)]), &tag);
        for value in ["\"ab12\"", "W/\"ab12\"", "\"x\", \"ab12\"", "\"x\",W/\"ab12\" , \"y\"", "*"] {
            assert!(known(value), "{value}");
        }
        for value in ["\"ab\"", "ab12", "\"ab12", "w/\"ab12\"", "\"x,ab12\"", ""] {
            assert!(!known(value), "{value}");
        }
        assert!(!is_known(&HeaderMap::new(), &tag));
        let two = headers(&[(header::IF_NONE_MATCH, "\"x\""), (header::IF_NONE_MATCH, "\"ab12\"")]);
        assert!(is_known(&two, &tag), "the header may stand there twice");
    }

    #[test]
    fn one_range_of_bytes_is_read() {
        let part = |range: &'static str, length: u64| {
            Part::of(&Method::GET, &headers(&[(header::RANGE, range)]), &etag("a"), length).ok()
        };
        let bytes = |first, last| Some(Part::Bytes { first, last });
        for (range, expected) in [
            ("bytes=0-0", bytes(0, 0)),
            ("bytes=2-5", bytes(2, 5)),
            ("Bytes=2-500", bytes(2, 9)),
            ("bytes=2-", bytes(2, 9)),
            ("bytes=-3", bytes(7, 9)),
            ("bytes=-30", bytes(0, 9)),
            ("bytes=2-99999999999999999999999", bytes(2, 9)),
            ("bytes=10-", None),
            ("bytes=-0", None),
            ("bytes=99999999999999999999999-", None),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        for other in
            ["bytes=-", "bytes=5-2", "bytes=1-2,4-5", "bytes=+1-2", "bytes=a-", "lines=1-2", "bytes", "bytes=1"]
        {
            assert_eq!(part(other, 10), Some(Part::Whole), "{other}");
        }
        assert_eq!(part("bytes=0-", 0), None);
        assert_eq!(part("bytes=-1", 0), None);
    }

    #[test]
    fn a_range_of_another_file_or_for_another_method_is_the_whole() {
        let tag = etag("a");
        let with = |if_range: &'static str| {
            let headers = headers(&[(header::RANGE, "bytes=2-"), (header::IF_RANGE, if_range)]);
            Part::of(&Method::GET, &headers, &tag, 10).unwrap()
        };
        assert_eq!(with("\"a\""), Part::Bytes { first: 2, last: 9 });
        for other in ["\"b\"", "W/\"a\"", "Sat, 29 Oct 1994 19:43:31 GMT"] {
            assert_eq!(with(other), Part::Whole, "{other}");
        }
        let range = headers(&[(header::RANGE, "bytes=2-")]);
        assert_eq!(Part::of(&Method::HEAD, &range, &tag, 10).unwrap(), Part::Whole);
    }
}

//! Which of several media types an answer takes: the caller's `Accept` against what there is.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::problem::Problem;

/// The offer that the caller likes best, by weight and then by the caller's order; the first offer where it
/// does not care. An offer's weight is that of the most specific range which covers it (RFC 9110, §12.5.1).
///
/// # Errors
/// 406 with the list of offers when it accepts none.
pub fn negotiate<T: Copy>(headers: &HeaderMap, offers: &[(&'static str, T)]) -> Result<T, Problem> {
    // Several lines are one list (RFC 9110, §5.3).
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    // An element of a list may be empty, and so may be the whole list (RFC 9110, §5.6.1.2).
    let parts = lines.flat_map(|line| line.split(',')).filter(|part| !part.trim().is_empty());
    let mut ranges: Vec<Range> = parts.map(Range::read).collect();
    if ranges.is_empty() {
        ranges.push(Range::read("*/*"));
    }
    let accepted = offers.iter().filter_map(|(media, offer)| {
        let (weight, place) = wanted(&ranges, media)?;
        (weight > 0.0).then_some((weight, place, *offer))
    });
    // Of equals, `min_by` keeps the first.
    let best = accepted.min_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    best.map(|(_, _, offer)| offer).ok_or_else(|| {
        let all = offers.iter().map(|(media, _)| *media).collect::<Vec<_>>().join(", ");
        let [(name, value)] = vary();
        Problem::not_acceptable(format!("this comes as one of {all}")).with_header(name, value)
    })
}

/// Tells caches that another `Accept` gets another answer.
pub fn vary() -> [(HeaderName, HeaderValue); 1] {
    [(header::VARY, HeaderValue::from_static("accept"))]
}

/// The weight of a media type, and which of the ranges gives it; none where no range covers it. Ranges that differ in
/// their parameters alone are alike here: the one with the most weight counts.
fn wanted(ranges: &[Range], media: &str) -> Option<(f32, usize)> {
    let covering =
        ranges.iter().enumerate().filter_map(|(place, range)| Some((range.closeness(media)?, range.weight, place)));
    let closest = covering.min_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
    closest.map(|(_, weight, place)| (weight, place))
}

/// A media range (`*/*`, `text/*`, `text/csv`) and its weight.
struct Range {
    media: String,
    weight: f32,
}

impl Range {
    fn read(part: &str) -> Self {
        let part = part.to_ascii_lowercase();
        let mut words = part.split(';').map(str::trim);
        let media = words.next().unwrap_or_default().to_owned();
        let weight = words.find_map(|word| word.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        Self { media, weight }
    }

    /// How much of a media type the range names; none where it does not cover it.
    fn closeness(&self, media: &str) -> Option<u8> {
        match self.media.strip_suffix('*') {
            Some("*/") => Some(0),
            Some(kind) if kind.ends_with('/') => media.starts_with(kind).then_some(1),
            _ => (self.media == media).then_some(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: [(&str, char); 3] = [("application/json", 'j'), ("text/csv", 'c'), ("text/markdown", 'm')];

    fn accept(value: &'static str) -> Result<char, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(value));
        negotiate(&headers, &OFFERS)
    }

    #[test]
    fn the_format_follows_accept() {
        assert_eq!(negotiate(&HeaderMap::new(), &OFFERS).unwrap(), 'j');
        assert_eq!(accept("text/csv").unwrap(), 'c');
        assert_eq!(accept("text/*").unwrap(), 'c');
        assert_eq!(accept("Text/Markdown, */*;q=0.1").unwrap(), 'm');
        assert_eq!(accept("text/csv;q=0.2, application/json").unwrap(), 'j');
        assert_eq!(accept("text/html,application/xhtml+xml,*/*;q=0.8").unwrap(), 'j');
        let lines = [HeaderValue::from_static("image/png, text/csv;q=0.2"), HeaderValue::from_static("text/markdown")];
        let lines = HeaderMap::from_iter(lines.map(|line| (header::ACCEPT, line)));
        assert_eq!(negotiate(&lines, &OFFERS).unwrap(), 'm', "several lines are one list");
        for (value, expected) in [("", 'j'), (" ", 'j'), (",", 'j'), (" ,, text/csv ,", 'c')] {
            assert_eq!(accept(value).unwrap(), expected, "{value:?}: nothing stands for nothing");
        }
        let none = accept("image/png, text/csv;q=0").unwrap_err();
        assert!(none.status() == 406 && none.detail().contains("text/markdown"), "{}", none.detail());
    }

    #[test]
    fn the_most_specific_range_gives_a_media_type_its_weight() {
        for (value, expected) in [
            ("application/json;q=0, */*", 'c'),
            ("*/*, application/json;q=0.1", 'c'),
            ("text/csv;q=0, text/*", 'm'),
            ("text/*;q=0.9, text/csv;q=0.1, */*;q=0.5", 'm'),
            ("*/*;q=0, Text/Markdown;Q=0.1", 'm'),
            ("application/*;q=0.2, text/*;q=0.2", 'j'),
            ("text/csv;header=absent;q=0, text/csv", 'c'),
            ("text/markdown, text/csv, */*", 'm'),
        ] {
            assert_eq!(accept(value).unwrap(), expected, "{value}");
        }
        assert_eq!(accept("*/*;q=0").unwrap_err().status(), 406);
        assert_eq!(accept("text/*, text/csv;q=0, text/markdown;q=0").unwrap_err().status(), 406);
    }
}

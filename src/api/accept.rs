//! Which of several media types an answer takes: the caller's `Accept` against what there is.

use axum::http::{HeaderMap, header};

use super::problem::Problem;

/// The offer that the caller likes best, by weight and then by the caller's order; the first offer where it
/// does not care.
///
/// # Errors
/// 406 with the list of offers when it accepts none.
pub fn negotiate<T: Copy>(headers: &HeaderMap, offers: &[(&'static str, T)]) -> Result<T, Problem> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("*/*");
    let mut wanted: Vec<(f32, T)> = accept
        .split(',')
        .filter_map(|part| {
            let mut words = part.split(';').map(str::trim);
            let range = words.next()?.to_ascii_lowercase();
            let (_, offer) = offers.iter().find(|(media, _)| covers(&range, media))?;
            let weight = words.find_map(|word| word.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            (weight > 0.0).then_some((weight, *offer))
        })
        .collect();
    wanted.sort_by(|a, b| b.0.total_cmp(&a.0));
    wanted.first().map(|(_, offer)| *offer).ok_or_else(|| {
        let all = offers.iter().map(|(media, _)| *media).collect::<Vec<_>>().join(", ");
        Problem::not_acceptable(format!("this comes as one of {all}"))
    })
}

/// Whether a media range (`*/*`, `text/*`, `text/csv`) covers a media type.
fn covers(range: &str, media: &str) -> bool {
    match range.strip_suffix('*') {
        Some("*/") => true,
        Some(kind) if kind.ends_with('/') => media.starts_with(kind),
        _ => range == media,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

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
        let none = accept("image/png, text/csv;q=0").unwrap_err();
        assert!(none.status() == 406 && none.detail().contains("text/markdown"), "{}", none.detail());
    }
}

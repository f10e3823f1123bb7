//! The files of a version on a condition and in part, and answers that vary with what is accepted.

use reqwest::Response;
use sha2::{Digest, Sha256};

use super::app::{TestApp, pointers, problem};

/// An answer to these headers.
async fn ask(app: &TestApp, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = headers.iter().fold(app.get(path), |request, (name, value)| request.header(*name, *value));
    request.send().await.unwrap()
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// Of `shape:1`, which is its champion.
pub async fn check(app: &TestApp) {
    let (weights, alias) = ("/models/shape/versions/1/weights", "/models/shape/versions/champion/weights");
    let whole = ask(app, weights, &[]).await;
    assert_eq!((whole.status().as_u16(), header(&whole, "accept-ranges")), (200, "bytes"));
    let (tag, length) = (header(&whole, "etag").to_owned(), header(&whole, "content-length").to_owned());
    let file = whole.bytes().await.unwrap();
    let hash: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((tag.as_str(), length), (format!("\"{hash}\"").as_str(), file.len().to_string()));

    check_conditions(app, &[weights, alias], &tag).await;
    for (range, first, last) in [
        ("bytes=100-", 100, file.len() - 1),
        ("bytes=0-99", 0, 99),
        ("bytes=-7", file.len() - 7, file.len() - 1),
        ("bytes=5-999999999999", 5, file.len() - 1),
    ] {
        let part = ask(app, weights, &[("range", range), ("if-range", &tag)]).await;
        assert_eq!((part.status().as_u16(), header(&part, "etag")), (206, tag.as_str()), "{range}");
        assert_eq!(header(&part, "content-range"), format!("bytes {first}-{last}/{}", file.len()), "{range}");
        assert_eq!(header(&part, "content-length"), (last - first + 1).to_string(), "{range}");
        assert!(header(&part, "content-disposition").contains("shape-1.safetensors"), "{range}");
        assert!(part.bytes().await.unwrap() == file[first..=last], "{range}");
    }
    for headers in [[("range", "bytes=0-1,4-5"), ("x-none", "x")], [("range", "bytes=100-"), ("if-range", "\"other\"")]]
    {
        let all = ask(app, weights, &headers).await;
        assert_eq!(all.status(), 200, "{headers:?}");
        assert!(all.bytes().await.unwrap() == file, "{headers:?}");
    }
    let behind = ask(app, weights, &[("range", &format!("bytes={}-", file.len()))]).await;
    assert_eq!(header(&behind, "content-range"), format!("bytes */{}", file.len()));
    assert_eq!(pointers(&problem(behind, 416).await), ["Range"]);
    let head = app.client.head(format!("{}{weights}", app.base)).header("range", "bytes=100-").send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, file.len().to_string().as_str()));

    let predictions = "/models/shape/versions/1/predictions";
    let tag = header(&ask(app, predictions, &[]).await, "etag").to_owned();
    check_conditions(app, &[predictions, "/models/shape/versions/1/predictions?rows=unlabelled"], &tag).await;
    check_vary(app).await;
}

async fn check_conditions(app: &TestApp, paths: &[&str], tag: &str) {
    for path in paths {
        for same in [tag.to_owned(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            // What is known already is not sent in part either.
            let answer = ask(app, path, &[("if-none-match", &same), ("range", "bytes=1-2")]).await;
            assert_eq!((answer.status().as_u16(), header(&answer, "etag")), (304, tag), "{path} {same}");
            assert!(!answer.headers().contains_key("content-length"), "the file is longer than nothing: {path}");
            assert!(answer.bytes().await.unwrap().is_empty(), "{path} {same}");
        }
        assert_eq!(ask(app, path, &[("if-none-match", "\"x\"")]).await.status(), 200, "{path}");
    }
}

async fn check_vary(app: &TestApp) {
    let job = app.json("/models/shape/versions/1").await["job_id"].as_str().unwrap().to_owned();
    let paths = [
        "/models/shape/versions/1/card".to_owned(),
        "/models/shape/versions/1/report".to_owned(),
        format!("/jobs/{job}/report"),
        format!("/jobs/{job}/metrics"),
    ];
    for path in paths {
        for (accept, status) in
            [("*/*", 200), ("application/json", 200), ("text/csv, text/markdown", 200), ("image/png", 406)]
        {
            let answer = ask(app, &path, &[("accept", accept)]).await;
            assert_eq!((answer.status().as_u16(), header(&answer, "vary")), (status, "accept"), "{path} {accept}");
        }
    }
}

//! The dashboard's files, embedded: `api/dashboard.rs` serves them, and they speak to the public API only.
//!
//! Plain HTML, CSS and ES modules: what lies here is what the browser gets, without a build step and
//! without anything from elsewhere.

/// One file of the dashboard.
#[derive(Debug)]
pub struct Asset {
    /// Where it is served.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes.
    pub body: &'static [u8],
}

/// A module beside this file, served under `/assets/`.
macro_rules! module {
    ($name:literal) => {
        Asset {
            path: concat!("/assets/", $name),
            content_type: "text/javascript; charset=utf-8",
            body: include_bytes!($name),
        }
    };
}

static ASSETS: &[Asset] = &[
    Asset { path: "/", content_type: "text/html; charset=utf-8", body: include_bytes!("index.html") },
    Asset { path: "/assets/style.css", content_type: "text/css; charset=utf-8", body: include_bytes!("style.css") },
    Asset { path: "/assets/favicon.svg", content_type: "image/svg+xml", body: include_bytes!("favicon.svg") },
    module!("accuracy.js"),
    module!("api.js"),
    module!("chart.js"),
    module!("compare-images.js"),
    module!("csv.js"),
    module!("dataset-import.js"),
    module!("dataset-parts.js"),
    module!("dataset-pictures.js"),
    module!("dom.js"),
    module!("drop-zone.js"),
    module!("epochs.js"),
    module!("files.js"),
    module!("form.js"),
    module!("format.js"),
    module!("job-charts.js"),
    module!("job-head.js"),
    module!("job-labels.js"),
    module!("job-log.js"),
    module!("job-parts.js"),
    module!("job-test.js"),
    module!("job-warnings.js"),
    module!("key.js"),
    module!("label-carry.js"),
    module!("label-finish.js"),
    module!("label-names.js"),
    module!("label-offers.js"),
    module!("label-order.js"),
    module!("label-pictures.js"),
    module!("label-review.js"),
    module!("label-setup.js"),
    module!("label-sheets.js"),
    module!("label-stage.js"),
    module!("label-storage.js"),
    module!("labelling.js"),
    module!("main.js"),
    module!("model-parts.js"),
    module!("model-tests.js"),
    module!("offline.js"),
    module!("pause.js"),
    module!("predict-batches.js"),
    module!("predict-card.js"),
    module!("predict-overview.js"),
    module!("predict-summary.js"),
    module!("problem.js"),
    module!("router.js"),
    module!("scale.js"),
    module!("sending.js"),
    module!("shell.js"),
    module!("sse.js"),
    module!("table.js"),
    module!("view-compare.js"),
    module!("view-dataset.js"),
    module!("view-datasets.js"),
    module!("view-job-new.js"),
    module!("view-job.js"),
    module!("view-jobs.js"),
    module!("view-label.js"),
    module!("view-models.js"),
    module!("view-overview.js"),
    module!("view-predict.js"),
    module!("view-sweep.js"),
    module!("zip.js"),
];

/// Every file of the dashboard.
pub fn assets() -> &'static [Asset] {
    ASSETS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn text(asset: &Asset) -> &'static str {
        std::str::from_utf8(asset.body).unwrap_or_else(|error| panic!("{} is not UTF-8: {error}", asset.path))
    }

    fn paths() -> BTreeSet<&'static str> {
        assets().iter().map(|asset| asset.path).collect()
    }

    fn modules() -> impl Iterator<Item = &'static Asset> {
        assets().iter().filter(|asset| asset.path.ends_with(".js"))
    }

    /// Everything that stands in `text` between `before` and the next `after`.
    fn between<'a>(text: &'a str, before: &'a str, after: char) -> impl Iterator<Item = &'a str> {
        text.split(before).skip(1).filter_map(move |rest| rest.split(after).next())
    }

    #[test]
    fn every_path_is_unique() {
        assert_eq!(paths().len(), assets().len());
    }

    #[test]
    fn the_page_names_embedded_files_only() {
        let page = text(assets().iter().find(|asset| asset.path == "/").expect("there is a page"));
        let named: Vec<&str> = ["src=\"/", "href=\"/"]
            .into_iter()
            .flat_map(|attribute| between(page, attribute, '"'))
            // The documentation is another room's, see `api/docs.rs`.
            .filter(|rest| !rest.starts_with("docs"))
            .collect();
        assert!(named.len() >= 3, "a style sheet, an icon and a script at least: {named:?}");
        for rest in named {
            assert!(paths().contains(format!("/{rest}").as_str()), "index.html names /{rest}, which is not embedded");
        }
    }

    #[test]
    fn every_imported_module_is_embedded_and_every_module_is_imported() {
        let mut imported = BTreeSet::from(["/assets/main.js".to_owned()]);
        for asset in modules() {
            for name in between(text(asset), "from './", '\'') {
                let path = format!("/assets/{name}");
                assert!(paths().contains(path.as_str()), "{} imports ./{name}, which is not embedded", asset.path);
                imported.insert(path);
            }
        }
        for asset in modules() {
            assert!(imported.contains(asset.path), "nobody imports {}", asset.path);
        }
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        for asset in assets() {
            // A name, not an address: no browser fetches it.
            let rest = text(asset).replace("http://www.w3.org/2000/svg", "");
            for scheme in ["http://", "https://"] {
                assert!(!rest.contains(scheme), "{} names {scheme}", asset.path);
            }
        }
    }

    #[test]
    fn text_of_the_server_is_never_markup() {
        for asset in modules() {
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"] {
                assert!(!text(asset).contains(word), "{} uses {word}", asset.path);
            }
        }
    }
}

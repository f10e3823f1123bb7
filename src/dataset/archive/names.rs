//! What the names of files say: where they lie, whether they are images, whether some program left them there.

use crate::dataset::labels::composed;

/// What the names of images end in, in any case.
const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp"];

/// Folders that file managers and network drives keep beside the files: thumbnails, forks.
const LITTER: [&str; 3] = ["__MACOSX", "@eaDir", ".@__thumb"];

/// A path as a sheet and an archive may both have meant it: some Windows programs write backslashes, others lead with `./`,
/// and macOS writes a letter and its accent apart.
pub fn normalised(path: &str) -> String {
    let path = composed(&path.replace('\\', "/"));
    path.trim_start_matches("./").to_owned()
}

/// What file managers leave in archives.
pub fn is_litter(path: &str) -> bool {
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders.split('/').any(|folder| LITTER.contains(&folder))
        || matches!(base_name(path), ".DS_Store" | "Thumbs.db" | "desktop.ini")
}

/// The name without its folders.
pub fn base_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A file's name less folder and extension.
pub fn less_extension(path: &str) -> &str {
    let base = base_name(path);
    base.rsplit_once('.').map_or(base, |(stem, _)| stem)
}

/// A file's name less folder, extension and what a sheet's cells lose: see [`stem_of`].
pub fn stem(path: &str) -> String {
    stem_of(less_extension(path))
}

/// A name less its case, the spaces around it, and the leading zeros of a number.
pub fn stem_of(name: &str) -> String {
    let name = name.trim();
    match name.trim_start_matches('0') {
        "" if !name.is_empty() => "0".to_owned(),
        number if name.bytes().all(|byte| byte.is_ascii_digit()) => number.to_owned(),
        _ => name.to_lowercase(),
    }
}

/// An image's path less its extension; none where it has none of an image's.
pub fn without_extension(path: &str) -> Option<&str> {
    let (bare, extension) = path.rsplit_once('.')?;
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)).then_some(bare)
}

/// By its extension; hidden files, and those in hidden folders, are some program's own.
pub fn is_image(path: &str) -> bool {
    let hidden = path.split(['/', '\\']).any(|part| part.starts_with('.') && part != ".");
    !hidden && without_extension(path).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_told_by_their_extensions_and_hidden_files_are_none() {
        for image in ["a.jpg", "x/b.JPEG", "x\\c.Png", "./d.webp", "x.y/e.1.jpg", "a./f.png", "g.jfif", "h.JPE"] {
            assert!(is_image(image), "{image}");
        }
        for other in ["jpg", "a.gif", "a.jpg.txt", "README", "x.png/README", "._a.jpg", ".cache/a.jpg", "x\\.b.png", ""]
        {
            assert!(!is_image(other), "{other}");
        }
    }

    #[test]
    fn a_stem_is_what_a_spreadsheet_leaves_of_a_name() {
        for (path, expected) in
            [("x/ A.b.JPG", "a.b"), ("0985.jpg", "985"), ("000.png", "0"), ("01a.jpg", "01a"), ("0.5.jpg", "0.5")]
        {
            assert_eq!(stem(path), expected, "{path:?}");
        }
    }

    /// The paths of the list that the label page is held against too, each with what it is.
    fn listed() -> impl Iterator<Item = (&'static str, &'static str)> {
        let lines = include_str!("../../../tests/archive_names.txt").lines();
        lines.filter(|line| !line.starts_with('#')).map(|line| line.split_once(' ').unwrap())
    }

    #[test]
    fn a_path_is_the_same_to_the_label_page() {
        assert!(listed().count() > 20);
        for (kind, path) in listed() {
            let path = normalised(path);
            let is = match (is_litter(&path), is_image(&path)) {
                (true, _) => "litter",
                (_, true) => "image",
                _ if path.split('/').any(|part| part.starts_with('.')) => "hidden",
                _ => "other",
            };
            assert_eq!(is, kind, "{path}");
        }
    }
}

//! What the figures of an epoch and of a test have for each class. Of a thousand classes that is megabytes, so that whoever lists jobs or
//! versions reads them without it. It is named here alone: the queries and the lists of the API are made of these names.

/// Those of a test or of an epoch: as a list of `names`, or as what follows the column in SQLite's `json_remove`, for figures that lie
/// `at` a path.
macro_rules! by_class {
    (test => $($made:tt)+) => {
        crate::store::by_class::by_class!(@"confusion", "classes" => $($made)+)
    };
    (epoch => $($made:tt)+) => {
        crate::store::by_class::by_class!(
            @"guess_classes", "unlabelled_classes", "validation_classes" => $($made)+
        )
    };
    (@$($name:literal),+ => names) => {
        &[$($name),+]
    };
    (@$($name:literal),+ => at $path:literal) => {
        concat!($(", '", $path, ".", $name, "'"),+)
    };
}
pub(super) use by_class;

/// What a test has for each class.
pub const TEST_BY_CLASS: &[&str] = by_class!(test => names);

/// What an epoch has for each class.
pub const EPOCH_BY_CLASS: &[&str] = by_class!(epoch => names);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_the_paths() {
        assert_eq!(by_class!(test => at "$.test"), ", '$.test.confusion', '$.test.classes'");
        let paths: Vec<String> = EPOCH_BY_CLASS.iter().map(|name| format!(", '$.{name}'")).collect();
        assert_eq!(by_class!(epoch => at "$"), paths.concat());
    }
}

//! Query strings: every parameter that is wrong is named, and what it may be.

use std::collections::HashSet;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;
use serde::de::value::{Error, MapDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::problem::{Problem, ProblemItem};
use super::wording::{beginning, plain, wanted};

/// Parameters that are told.
const MOST: usize = 100;

/// A query string. 422 with every parameter that is unknown, repeated, or no value of its kind.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        read(&parts.uri).map(Self)
    }
}

fn read<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
    let axum::extract::Query(pairs) = pairs.map_err(|error| does_not_fit(Vec::new(), &error.body_text()))?;
    fitted(pairs.iter().cloned()).map_err(|error| wrong::<T>(&pairs, &error.to_string()))
}

/// These parameters as what is wanted; the first thing that is wrong with them.
fn fitted<T: DeserializeOwned>(pairs: impl Iterator<Item = (String, String)>) -> Result<T, Error> {
    T::deserialize(MapDeserializer::new(pairs.map(|(name, value)| (name, Parameter(value)))))
}

/// What is wrong with each of the parameters, tried one by one; `first` is what was found first where they are all right alone.
fn wrong<T: DeserializeOwned>(pairs: &[(String, String)], first: &str) -> Problem {
    let items = each_once(pairs, |name, value, again| {
        if again {
            return Some(("bad_query", repeated(name)));
        }
        let message = fitted::<T>(std::iter::once((name.to_owned(), value.to_owned()))).err()?.to_string();
        // Of one parameter alone it says nothing that others are missing.
        (!message.starts_with("missing field")).then(|| ("bad_query", sentence(name, &message)))
    });
    does_not_fit(items, first)
}

/// What `wrong` says of parameters, as a code and a sentence: of each name once, by its beginning, and of so many at most that the answer
/// is not far longer than the question. `wrong` hears the name, the value, and whether the name was there before.
pub(super) fn each_once(
    pairs: &[(String, String)],
    mut wrong: impl FnMut(&str, &str, bool) -> Option<(&'static str, String)>,
) -> Vec<ProblemItem> {
    let (mut seen, mut told, mut items) = (HashSet::new(), HashSet::new(), Vec::new());
    for (name, value) in pairs {
        let again = !seen.insert(name);
        if told.contains(name) {
            continue;
        }
        let Some((code, detail)) = wrong(name, value, again) else { continue };
        told.insert(name);
        items.push(ProblemItem::new(format!("?{}", beginning(name)), code, detail));
        if items.len() == MOST {
            break;
        }
    }
    items
}

/// What is said of a parameter that is there again.
pub(super) fn repeated(name: &str) -> String {
    format!("{} is there more than once", beginning(name))
}

fn does_not_fit(mut items: Vec<ProblemItem>, first: &str) -> Problem {
    if items.is_empty() {
        let name = first.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')).unwrap_or_default();
        items.push(ProblemItem::new(format!("?{name}"), "bad_query", plain("it", first)));
    }
    let detail = match items.as_slice() {
        [one] => format!("the query string does not fit: {}", one.detail),
        many => format!("the query string does not fit: {} parameters are wrong", many.len()),
    };
    Problem::invalid(detail).with_errors(items)
}

fn sentence(name: &str, message: &str) -> String {
    let name = beginning(name);
    if message.starts_with(MUST) { format!("{name} {message}") } else { plain(&name, message) }
}

/// How a value's own problem begins, behind its name.
const MUST: &str = "must be ";

/// The value of a parameter, which says what it must be where it is no value of the kind that is wanted.
struct Parameter(String);

impl Parameter {
    fn read<N: FromStr>(&self, kind: &str) -> Result<N, Error> {
        self.0.parse().map_err(|_unlike| self.refused(&wanted(kind)))
    }

    fn refused(&self, wanted: &str) -> Error {
        Error::custom(format!("{MUST}{wanted}, not {:?}", beginning(&self.0)))
    }
}

impl IntoDeserializer<'_, Error> for Parameter {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! read_as {
    ($($method:ident, $visit:ident, $kind:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.read::<$kind>(stringify!($kind))?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Parameter {
    type Error = Error;

    read_as! {
        deserialize_bool, visit_bool, bool;
        deserialize_u8, visit_u8, u8;
        deserialize_u16, visit_u16, u16;
        deserialize_u32, visit_u32, u32;
        deserialize_u64, visit_u64, u64;
        deserialize_i8, visit_i8, i8;
        deserialize_i16, visit_i16, i16;
        deserialize_i32, visit_i32, i32;
        deserialize_i64, visit_i64, i64;
        deserialize_f32, visit_f32, f32;
        deserialize_f64, visit_f64, f64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if !variants.contains(&self.0.as_str()) {
            return Err(self.refused(&format!("one of {}", variants.join(", "))));
        }
        StringDeserializer::new(self.0).deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        limit: Option<u32>,
        after: Option<i64>,
        top: Option<usize>,
        threshold: Option<f32>,
        strict: Option<bool>,
        name: Option<String>,
        rows: Option<Rows>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Rows {
        All,
        NotMany,
    }

    fn of(query: &str) -> Result<Wanted, Problem> {
        read(&format!("http://localhost/x?{query}").parse().unwrap())
    }

    #[test]
    fn what_fits_is_read() {
        let all = of("limit=7&after=-3&top=2&threshold=0.5&strict=true&name=a%20b+c&rows=not_many").unwrap();
        let expected = Wanted {
            limit: Some(7),
            after: Some(-3),
            top: Some(2),
            threshold: Some(0.5),
            strict: Some(true),
            name: Some("a b c".to_owned()),
            rows: Some(Rows::NotMany),
        };
        assert_eq!(all, expected);
        assert_eq!(of("").unwrap(), Wanted::default());
        assert_eq!(of("name=&&").unwrap(), Wanted { name: Some(String::new()), ..Wanted::default() });
        assert_eq!(read::<Wanted>(&"/x".parse().unwrap()).unwrap(), Wanted::default());
        let pairs: Vec<(String, String)> = read(&"/x?a=1&b=%32&a=3".parse().unwrap()).unwrap();
        assert_eq!(
            pairs,
            [("a", "1"), ("b", "2"), ("a", "3")].map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn every_wrong_parameter_is_told_with_what_it_may_be() {
        let refused =
            of("limit=abc&name=x&after=1.5&top=-1&threshold=y&strict=yes&rows=some&colour=red&name=y&limit=-1")
                .unwrap_err();
        assert_eq!(refused.detail(), "the query string does not fit: 8 parameters are wrong");
        let errors = refused.body().errors;
        let told: Vec<(&str, &str)> = errors.iter().map(|item| (item.pointer.as_str(), item.detail.as_str())).collect();
        let expected = [
            ("?limit", "limit must be a whole number from 0 to 4294967295, not \"abc\""),
            ("?after", "after must be a whole number, not \"1.5\""),
            ("?top", "top must be a whole number from 0 on, not \"-1\""),
            ("?threshold", "threshold must be a number, not \"y\""),
            ("?strict", "strict must be true or false, not \"yes\""),
            ("?rows", "rows must be one of all, not_many, not \"some\""),
            ("?colour", "there is no colour here; there is limit, after, top, threshold, strict, name, rows"),
            ("?name", "name is there more than once"),
        ];
        assert_eq!(told, expected);
        assert!(errors.iter().all(|item| item.code == "bad_query"));
        let one = of("limit=4294967296").unwrap_err();
        let detail = "limit must be a whole number from 0 to 4294967295, not \"4294967296\"";
        assert_eq!(one.detail(), format!("the query string does not fit: {detail}"));
    }

    #[test]
    fn what_is_told_is_not_as_long_as_what_was_sent() {
        let long = of(&format!("{}=1&limit={}", "x".repeat(10_000), "9".repeat(10_000))).unwrap_err();
        let told = serde_json::to_string(&long.body()).unwrap();
        assert!(long.body().errors.len() == 2 && told.len() < 2000, "{told}");
        let many: Vec<String> = (0..5000).map(|number| format!("x{number}=1")).collect();
        assert_eq!(of(&many.join("&")).unwrap_err().body().errors.len(), MOST);
    }

    #[derive(Debug, Deserialize)]
    struct Needy {
        #[allow(dead_code, reason = "only parsed")]
        limit: u32,
        #[allow(dead_code, reason = "only parsed")]
        name: String,
    }

    #[test]
    fn what_is_missing_is_told_where_nothing_else_is_wrong() {
        let pointers = |query: &str| {
            let refused = read::<Needy>(&format!("/x?{query}").parse().unwrap()).unwrap_err();
            refused.body().errors.into_iter().map(|item| item.pointer).collect::<Vec<_>>()
        };
        assert_eq!(pointers("limit=1"), ["?name"]);
        assert_eq!(pointers("limit=x"), ["?limit"]);
    }
}

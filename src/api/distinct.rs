//! A JSON object that names every key once. serde's own maps let the last of equal keys win, so that what somebody asked for first
//! would be lost without a word.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use axum::extract::{FromRequest, Request};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::extract::{json_bytes, json_problem, read_json, token};
use super::predict_body::AT_ONCE;
use super::problem::{Problem, ProblemItem};
use super::state::AppState;

/// Repeats that are told.
const MOST: usize = 100;

/// Pointers that are made to find those. Many may come to the same one, below a key that is itself repeated or where only the
/// beginning of long keys is told, and each may be a hundred keys long.
const MOST_MADE: usize = 2 * MOST;

/// The body of a request. 415 without a JSON media type; 401 where the caller's key was revoked while it came; 400 for broken syntax;
/// 422 for what is no object, and with a pointer for every key, at whatever depth, that is there more than once.
#[derive(Debug)]
pub struct Distinct(pub Map<String, Value>);

impl FromRequest<AppState> for Distinct {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, Problem> {
        let bytes = json_bytes(request, app).await?;
        if bytes.len() <= AT_ONCE {
            return parse(&bytes).map(Self);
        }
        let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
        parsed.map_err(|error| Problem::bug("the body could not be read", &error))?.map(Self)
    }
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    let (value, Repeats { told, .. }) = read(bytes)?;
    if !told.is_empty() {
        let item = |pointer: String| {
            let detail = format!("{pointer} is there more than once: leave all but one out");
            ProblemItem::new(pointer, "repeated_field", detail)
        };
        return Err(
            Problem::invalid("a field is there more than once").with_errors(told.into_iter().map(item).collect())
        );
    }
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(json_problem(&Error::custom("an object is needed"), "")),
    }
}

fn read(bytes: &[u8]) -> Result<(Value, Repeats), Problem> {
    let repeats = RefCell::default();
    let value = read_json(bytes, Within { place: &Place::Root, repeats: &repeats })?;
    Ok((value, repeats.into_inner()))
}

/// The keys that are there more than once.
#[derive(Default)]
struct Repeats {
    /// Pointers to them, each once.
    told: Vec<String>,
    /// Pointers that were made for that.
    made: usize,
}

impl Repeats {
    fn tell(&mut self, place: &Place<'_>) {
        if self.told.len() == MOST || self.made == MOST_MADE {
            return;
        }
        self.made += 1;
        let pointer = place.pointer();
        if !self.told.contains(&pointer) {
            self.told.push(pointer);
        }
    }
}

/// Where a value stands: it becomes text only where there is something to tell.
enum Place<'a> {
    Root,
    Item(&'a Place<'a>, usize),
    Key(&'a Place<'a>, &'a str),
}

impl Place<'_> {
    fn pointer(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Item(list, at) => format!("{}/{at}", list.pointer()),
            Self::Key(object, key) => object.pointer() + &token(key),
        }
    }
}

/// A value at `place`.
struct Within<'a> {
    place: &'a Place<'a>,
    repeats: &'a RefCell<Repeats>,
}

impl<'de> DeserializeSeed<'de> for Within<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Within<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        loop {
            let place = Place::Item(self.place, all.len());
            let Some(item) = items.next_element_seed(Within { place: &place, repeats: self.repeats })? else { break };
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (mut all, mut repeated) = (Map::new(), HashSet::new());
        while let Some(key) = entries.next_key::<String>()? {
            let place = Place::Key(self.place, &key);
            let value = entries.next_value_seed(Within { place: &place, repeats: self.repeats })?;
            if all.contains_key(&key) && repeated.insert(key.clone()) {
                self.repeats.borrow_mut().tell(&place);
            }
            all.insert(key, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use serde_json::json;

    #[test]
    fn what_is_read_is_what_serde_json_reads() {
        let value = json!({"a": [null, true, -3, 18_446_744_073_709_551_615_u64, 0.1, "é"], "b": {"a": {"a": {}}}});
        assert_eq!(Value::Object(parse(value.to_string().as_bytes()).unwrap()), value);
    }

    #[test]
    fn every_repeated_key_is_named_where_it_stands() {
        let text = br#"{"seed": 1, "grid": {"k": [1], "a/b": 1, "k": [2], "a/b": 2}, "seed": 2, "x": [{"y": 1, "y": 1}], "seed": 3}"#;
        let refused = parse(text).unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let pointers: Vec<String> = refused.body().errors.into_iter().map(|error| error.pointer).collect();
        assert_eq!(pointers, ["/grid/k", "/grid/a~1b", "/seed", "/x/0/y"]);
        let many: Vec<String> = (0..20_000).map(|number| format!("\"{number}\": 1")).collect();
        let many = many.join(", ");
        assert_eq!(parse(format!("{{{many}, {many}}}").as_bytes()).unwrap_err().body().errors.len(), MOST);
        // What is told is not as long as what was sent, nor a hundred times that.
        let text = format!("{{\"{}\": {{{many}, {many}}}}}", "x".repeat(900_000));
        let told = serde_json::to_string(&parse(text.as_bytes()).unwrap_err().body()).unwrap();
        assert!(told.len() < 100_000, "{} bytes", told.len());
    }

    #[test]
    fn few_pointers_are_made_however_often_a_key_is_repeated() {
        let below = |inner: &str| {
            let begin: String = (0..20).map(|depth| format!("{{\"{}{depth:03}\": ", "/".repeat(77))).collect();
            let (_, repeats) = read(format!("{begin}{{{inner}}}{}", "}".repeat(20)).as_bytes()).unwrap();
            (repeats.told.len(), repeats.made)
        };
        assert_eq!(below(&vec!["\"a\": 1"; 50_000].join(", ")), (1, 1));
        // The same place below a key that is itself repeated, and long keys of which the same beginning is told.
        let (told, made) = below(&vec!["\"p\": {\"a\": 1, \"a\": 1}"; 20_000].join(", "));
        assert_eq!((told, made), (2, MOST_MADE));
        let long: Vec<String> = (0..2000).map(|number| format!("\"{}{number}\": 1", "x".repeat(100))).collect();
        let long = long.join(", ");
        assert_eq!(below(&format!("{long}, {long}")), (1, MOST_MADE));
    }

    #[test]
    fn what_is_no_object_or_no_json_is_refused() {
        assert_eq!(parse(b"[1]").unwrap_err().status(), StatusCode::UNPROCESSABLE_ENTITY);
        for broken in ["", "{", "{\"a\": 1} x", &"[".repeat(100_000)] {
            assert_eq!(parse(broken.as_bytes()).unwrap_err().status(), StatusCode::BAD_REQUEST, "{broken:.20}");
        }
    }
}

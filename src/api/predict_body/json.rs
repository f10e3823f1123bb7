//! A prediction's images as JSON: read one by one, so that one too many ends it.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use utoipa::ToSchema;

use super::super::extract::read_json as read;
use super::super::problem::{Problem, ProblemItem};
use super::{Incoming, pointer, too_many};

/// Images as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "documentation only: `Reader` reads it, which stops at too many images")]
pub struct PredictRequest {
    /// At least one.
    #[schema(min_items = 1)]
    images: Vec<EncodedImage>,
}

/// One image as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = r#"each image as {"base64": "…"}, with an "id" if you like"#)]
pub struct EncodedImage {
    /// Comes back with the result.
    id: Option<String>,
    /// The file's bytes in base64 (a `data:` URL is read, too; lines and missing padding do no harm).
    base64: String,
}

/// Reads a JSON body as `POST /predict` does (`fuzz_targets`).
pub(crate) fn read_json(body: &[u8]) {
    if let Ok(images) = images(body, usize::MAX) {
        assert!(images.iter().all(|image| image.size() <= body.len()));
    }
}

/// The images of a JSON body.
///
/// # Errors
/// 413 for more than `most`, 400 and 422 for what cannot be read.
pub fn images(body: &[u8], most: usize) -> Result<Vec<Incoming>, Problem> {
    let over = Cell::new(false);
    let images = read(body, Reader { most, over: &over });
    if over.get() { Err(too_many(most)) } else { images }
}

/// Reads a [`PredictRequest`], and nothing of it behind one image too many.
#[derive(Clone, Copy)]
struct Reader<'a> {
    most: usize,
    /// That it stopped for this.
    over: &'a Cell<bool>,
}

/// Reads the list in it.
struct ListReader<'a>(Reader<'a>);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum RequestField {
    Images,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Vec<Incoming>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Vec<Incoming>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(r#"{"images": [{"base64": "…"}, …]}"#)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut images = None;
        while let Some(RequestField::Images) = map.next_key()? {
            if images.is_some() {
                return Err(A::Error::duplicate_field("images"));
            }
            images = Some(map.next_value_seed(ListReader(self))?);
        }
        images.ok_or_else(|| A::Error::missing_field("images"))
    }
}

impl<'de> DeserializeSeed<'de> for ListReader<'_> {
    type Value = Vec<Incoming>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ListReader<'_> {
    type Value = Vec<Incoming>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(r#"a list of images, [{"base64": "…"}, …]"#)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut images = Vec::new();
        while let Some(image) = list.next_element::<EncodedImage>()? {
            if images.len() == self.0.most {
                self.0.over.set(true);
                return Err(A::Error::custom("too many images"));
            }
            images.push(image.decoded(images.len()));
        }
        Ok(images)
    }
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl EncodedImage {
    fn decoded(self, place: usize) -> Incoming {
        let text = match self.base64.split_once(";base64,") {
            Some((head, rest)) if head.starts_with("data:") => rest,
            _ => self.base64.as_str(),
        };
        // In lines of 76 letters, as many programs write it, and with or without the padding.
        let text: Cow<'_, str> = match text.contains(|letter: char| letter.is_ascii_whitespace()) {
            true => text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect::<String>().into(),
            false => text.into(),
        };
        let bytes = BASE64
            .decode(text.as_bytes())
            .map_err(|error| ProblemItem::new(pointer(place), "bad_base64", format!("this is not base64: {error}")));
        Incoming { id: self.id, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Incoming>, Problem> {
        images(text.as_bytes(), 2)
    }

    #[test]
    fn bad_base64_is_that_images_own_problem() {
        let images = of(r#"{"images":[{"id":"a","base64":"AAAA"},{"base64":"%%"}]}"#).unwrap();
        assert_eq!(images[0].bytes.as_ref().unwrap(), &[0, 0, 0]);
        assert_eq!(images[1].bytes.as_ref().unwrap_err().pointer, "/images/1");
    }

    #[test]
    fn a_data_url_is_read() {
        let images = of(r#"{"images":[{"base64":"data:image/png;base64,AAAA"}]}"#).unwrap();
        assert!(images[0].bytes.is_ok());
    }

    #[test]
    fn base64_may_come_in_lines_and_without_its_padding() {
        for text in ["AAECAw==", "AAECAw", "AAEC\\r\\nAw==\\n", " AAE\\tCAw "] {
            let images = of(&format!(r#"{{"images":[{{"base64":"{text}"}}]}}"#)).unwrap();
            assert_eq!(images[0].bytes.as_ref().unwrap(), &[0, 1, 2, 3], "{text}");
        }
    }

    #[test]
    fn too_many_images_are_not_read_to_their_end() {
        let three = r#"{"images": [{"base64": ""}, {"base64": ""}, {"base64": ""}, and so on"#;
        let refused = of(three).unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.body().errors[0].code.as_str()), (413, "too_many_images"));
        assert_eq!(of(r#"{"images": [{"base64": ""}, {"base64": ""}]}"#).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_request_is_told_where() {
        let told = |text: &str| {
            let refused = of(text).unwrap_err();
            let pointer = refused.body().errors.first().map(|error| error.pointer.clone());
            (refused.status().as_u16(), pointer)
        };
        let at = |pointer: &str| (422_u16, Some(pointer.to_owned()));
        assert_eq!(told("{}"), at("/images"));
        assert_eq!(told(r#"{"images": [], "pictures": []}"#), at("/pictures"));
        assert_eq!(told(r#"{"images": [{"base64": "", "url": ""}]}"#), at("/images/0/url"));
        assert_eq!(told(r#"{"images": [{"base64": ""}, {"data": ""}]}"#), at("/images/1/data"));
        assert_eq!(told(r#"{"images": [], "images": []}"#), at("/images"));
        assert_eq!(told(r#"{"images": {}}"#), at("/images"));
        assert_eq!(told("[]"), at(""));
        assert_eq!(told(r#"{"images": []} {}"#), (400, None));
        assert_eq!(told(r#"{"images": ["#), (400, None));
    }
}

//! Lists: `{"items": […], "next_cursor": …}` with keyset cursors. The cursor is the id of the last item, or its name
//! where the list goes by name, so a walk meets each row once, whatever is inserted meanwhile.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::problem::Problem;

/// The most items of one page.
pub const MOST: u32 = 1000;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Where the next page begins; `null` at the end.
    pub next_cursor: Option<String>,
}

/// Which page is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// `next_cursor` of the page before.
    #[param(value_type = Option<Uuid>)]
    pub cursor: Option<String>,
    /// Items a page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
}

impl PageQuery {
    /// The checked limit.
    ///
    /// # Errors
    /// 422 outside 1 to 1000.
    pub fn limit(&self) -> Result<u32, Problem> {
        checked_limit(self.limit)
    }

    /// The checked cursor.
    ///
    /// # Errors
    /// 422 for what is no cursor.
    pub fn cursor(&self) -> Result<Option<Uuid>, Problem> {
        self.cursor.as_deref().map(|text| Uuid::parse_str(text).map_err(|_| bad_cursor())).transpose()
    }
}

/// The limit of a page, 100 where none is asked for.
///
/// # Errors
/// 422 outside 1 to 1000.
pub fn checked_limit(limit: Option<u32>) -> Result<u32, Problem> {
    match limit.unwrap_or(100) {
        limit @ 1..=MOST => Ok(limit),
        limit => Err(Problem::invalid("the query string does not fit").with_error(
            "?limit",
            "out_of_range",
            format!("limit is {limit}, allowed is 1 to {MOST}"),
        )),
    }
}

/// 422 for what is no cursor.
pub fn bad_cursor() -> Problem {
    let detail = "a cursor is the next_cursor of an earlier answer";
    Problem::invalid("the query string does not fit").with_error("?cursor", "bad_cursor", detail)
}

/// The number that a cursor is: of digits alone, and not more of them than its description says.
///
/// # Errors
/// 422 for what is no such cursor.
pub fn number_in<N: FromStr>(cursor: &str, most: usize) -> Result<N, Problem> {
    // `parse` alone takes a sign, too.
    let digits = cursor.len() <= most && cursor.bytes().all(|byte| byte.is_ascii_digit());
    cursor.parse().ok().filter(|_| digits).ok_or_else(bad_cursor)
}

/// Reads a cursor as a list does (`fuzz_targets`).
pub(crate) fn read_cursor(text: &str) {
    let query = PageQuery { cursor: Some(text.to_owned()), limit: None };
    if let Ok(Some(id)) = query.cursor() {
        assert_eq!(Uuid::parse_str(&id.to_string()), Ok(id), "a cursor stands for one place");
    }
}

impl<T> Page<T> {
    /// A page from one row more than asked for: the surplus row says that there is a next page.
    pub fn from_surplus(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next_cursor = if more { items.last().map(key) } else { None };
        Self { items, next_cursor }
    }

    /// The same page with other items.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next_cursor: self.next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surplus_row_makes_a_cursor_and_is_not_shown() {
        let page = Page::from_surplus(vec![1, 2, 3], 2, ToString::to_string);
        assert_eq!((page.items, page.next_cursor.as_deref()), (vec![1, 2], Some("2")));
        let last = Page::from_surplus(vec![1, 2], 2, ToString::to_string);
        assert_eq!(last.next_cursor, None);
    }

    #[test]
    fn a_number_is_digits_and_no_more_of_them_than_there_may_be() {
        assert_eq!(number_in::<i64>("042", 18).unwrap(), 42);
        assert_eq!(number_in::<u32>("999999999", 9).unwrap(), 999_999_999);
        for wrong in ["", "+5", "-5", " 5", "5.0", "x", "1234567890"] {
            assert_eq!(number_in::<i64>(wrong, 9).unwrap_err().body().errors[0].code, "bad_cursor", "{wrong:?}");
        }
    }

    #[test]
    fn limits_are_checked() {
        let query = |limit| PageQuery { cursor: None, limit };
        assert_eq!(query(None).limit().unwrap(), 100);
        assert_eq!(query(Some(0)).limit().unwrap_err().status(), 422);
        assert_eq!(query(Some(1001)).limit().unwrap_err().status(), 422);
    }
}

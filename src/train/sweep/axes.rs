//! The lists of a request: in place of a value where a field may be one, and in `grid` for all others.

use serde_json::{Map, Value};

use super::{MOST_RUNS, REQUEST_FIELDS};
use crate::train::config::FieldProblem;
use crate::train::resolve::shortened;

/// Fields that take a list in place of a value, the slowest to change first: after one seed is done, the
/// table has a figure in every line.
const LISTS: [&str; 3] = ["seed", "labelled", "algorithm"];

/// A field with the values it is to take.
pub struct Axis {
    /// Its name.
    pub field: String,
    /// Where the list stands in the request.
    pub pointer: String,
    /// One at least; more than [`MOST_RUNS`] are a request for too many runs, and were not looked at.
    pub values: Vec<Value>,
}

/// Takes the lists out of the request, and says whether there were any.
pub fn take_axes(request: &mut Map<String, Value>, problems: &mut Vec<FieldProblem>) -> (Vec<Axis>, bool) {
    let mut sweep = false;
    let mut found = Vec::new();
    for field in LISTS {
        if let Some(Value::Array(_)) = request.get(field) {
            sweep = true;
            found.push((field.to_owned(), format!("/{field}"), request.remove(field)));
        }
    }
    match request.remove("grid") {
        None | Some(Value::Null) => {}
        Some(Value::Object(grid)) => {
            sweep = true;
            for (field, values) in grid {
                let pointer = format!("/grid{}", FieldProblem::new(&field, "", "").pointer);
                let refused = if LISTS.contains(&field.as_str()) {
                    Some(("misplaced", format!("a list of {field} stands beside grid, not in it")))
                } else if REQUEST_FIELDS.contains(&field.as_str()) {
                    Some(("misplaced", format!("{field} is no hyper-parameter: it stands beside grid, not in it")))
                } else if request.contains_key(&field) {
                    Some(("given_twice", format!("{field} stands beside grid too; give it in one place")))
                } else {
                    None
                };
                match refused {
                    Some((code, detail)) => problems.push(FieldProblem { pointer, code: code.into(), detail }),
                    None => found.push((field, pointer, Some(values))),
                }
            }
        }
        Some(other) => {
            let detail = format!(
                "{} is no grid: an object of lists, such as {{\"lambda_u\": [3, 10]}}",
                shortened(&other.to_string())
            );
            problems.push(FieldProblem::new("grid", "invalid_value", detail));
        }
    }
    let mut axes = Vec::new();
    for (field, pointer, values) in found {
        match checked(&field, &pointer, values) {
            Ok(values) => axes.push(Axis { field, pointer, values }),
            Err(problem) => problems.push(problem),
        }
    }
    // The algorithm changes fastest: runs that are compared are neighbours.
    axes.sort_by_key(|axis| axis.field == "algorithm");
    (axes, sweep)
}

fn checked(field: &str, pointer: &str, values: Option<Value>) -> Result<Vec<Value>, FieldProblem> {
    let problem = |pointer: String, code: &str, detail: String| FieldProblem { pointer, code: code.into(), detail };
    let values = match values {
        Some(Value::Array(values)) if !values.is_empty() => values,
        Some(Value::Array(_)) => {
            return Err(problem(
                pointer.into(),
                "out_of_range",
                format!("the list of {field} is empty; name one value at least"),
            ));
        }
        other => {
            let other = other.unwrap_or_default();
            return Err(problem(
                pointer.into(),
                "invalid_value",
                format!("{} is no list of values for {field}", shortened(&other.to_string())),
            ));
        }
    };
    if values.len() > MOST_RUNS {
        // It is refused for that; to compare each with each would take minutes.
        return Ok(values);
    }
    for (at, value) in values.iter().enumerate() {
        if let Some(before) = values[..at].iter().position(|earlier| earlier == value) {
            let detail = format!("{field} {} stands at {pointer}/{before} already", shortened(&value.to_string()));
            return Err(problem(format!("{pointer}/{at}"), "repeated", detail));
        }
    }
    Ok(values)
}

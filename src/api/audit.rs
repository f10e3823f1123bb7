//! `/audit`: who changed what. A change is written down before it is made and completed after it, so that nothing
//! happens unseen; reads and predictions are not changes, and bodies are never kept.

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::auth::Caller;
use super::extract::Query;
use super::page::{Page, PageQuery};
use super::problem::{Problem, ProblemBody};
use super::state::{App, AppState};
use crate::store::{AuditRow, NewAudit};

/// Bytes of a path that are kept.
const TARGET_BYTES: usize = 256;

/// One change, or one attempt at it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    /// UUID v7.
    id: Uuid,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    at: jiff::Timestamp,
    /// Who: a key's name and prefix, or where the caller sits.
    #[schema(example = "laptop (Vb1xQ0aZ)")]
    actor: String,
    /// What was asked for.
    #[schema(example = "POST /jobs/{id}/cancel")]
    action: String,
    /// The path, or a command's object.
    target: String,
    /// Where a new thing is.
    created: Option<String>,
    /// What exactly was changed, where the path does not say it: from which version to which an alias moved.
    #[schema(example = "gender@champion: 3 -> 4")]
    detail: Option<String>,
    /// The request's id, as in the log and the answer.
    request_id: Option<String>,
    /// The answer's status; `null` where it never went out.
    #[schema(example = 202)]
    status: Option<u16>,
}

impl From<AuditRow> for AuditEntry {
    fn from(row: AuditRow) -> Self {
        let AuditRow { id, at, actor, action, target, created, detail, request_id, status } = row;
        Self { id, at, actor, action, target, created, detail, request_id, status }
    }
}

/// What exactly a change was, where its path does not say it: an answer's extension, by which a handler tells the audit.
#[derive(Clone, Debug)]
pub struct Detail(pub String);

/// Who changed what, newest first.
#[utoipa::path(get, path = "/audit", tag = "audit", params(PageQuery), security(("api_key" = ["admin"])), responses(
    (status = 200, body = Page<AuditEntry>),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn list(
    State(app): State<AppState>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<Page<AuditEntry>>, Problem> {
    let limit = page.limit()?;
    let rows = app.store.audit(page.cursor()?, limit + 1).await?;
    Ok(axum::Json(Page::from_surplus(rows, limit, |row| row.id.to_string()).map(AuditEntry::from)))
}

/// Runs a request that changes something, with a row before and after it. What cannot be written down is not done.
pub async fn recorded(app: &App, caller: &Caller, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    let action = format!("{} {route}", request.method());
    let target: String = request.uri().path().chars().take(TARGET_BYTES).collect();
    let request_id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let new = NewAudit { actor: &caller.name, action: &action, target: &target, request_id: request_id.as_deref() };
    let id = match app.store.begin_audit(new).await {
        Ok(id) => id,
        Err(error) => return Problem::from(error).into_response(),
    };
    let response = next.run(request).await;
    let created = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    let detail = response.extensions().get::<Detail>().map(|Detail(detail)| detail.as_str());
    if let Err(error) = app.store.complete_audit(id, response.status().as_u16(), created, detail).await {
        // The change is made; that it began stands in the audit.
        tracing::error!(%error, audit = %id, "a change could not be completed in the audit");
    }
    response
}

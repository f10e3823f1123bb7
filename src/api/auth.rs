//! Who calls, and whether that is enough. Everything needs a key except what a load balancer or a browser must see
//! before anybody can type one: health, and the dashboard's and the documentation's own files.
//!
//! What a route needs is declared beside the route, in its `security((…))`, and read from there ([`Needs`]): the
//! description and the gate cannot drift. Keys are looked up with every request, so a revoked one is dead at once.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::OpenApi;
use uuid::Uuid;

use super::audit;
use super::problem::Problem;
use super::rate::RateLimits;
use super::state::{App, AppState};
use crate::keys::{self, Scope};
use crate::store::StoreError;

/// Name of the security scheme in the description.
pub const SCHEME: &str = "api_key";

/// Who calls. Handlers find it among the request's extensions.
#[derive(Clone, Debug)]
pub struct Caller {
    /// For the log and the audit: a key's name and prefix, never its secret.
    pub name: String,
    /// What the caller may do.
    pub scope: Scope,
    /// The key that is counted; none on a server that is open to its own machine, nil for the configured one.
    pub key: Option<Uuid>,
}

impl Caller {
    /// Whether the caller may still do anything here. A stream or an upload may last for days, and a revoked key is to open nothing
    /// from that moment on; nor is to have none, once there are keys.
    ///
    /// # Errors
    /// The database's.
    pub async fn may_go_on(&self, app: &App) -> Result<bool, StoreError> {
        match self.key {
            None => Ok(!app.store.has_keys().await?),
            // The configured key has no row, and lasts as long as the server.
            Some(key) if key.is_nil() => Ok(true),
            Some(key) => Ok(app.store.key_of_id(key).await?.is_some_and(|key| key.is_live())),
        }
    }

    /// Refuses what took long to come, or to be made ready, where the key was revoked meanwhile, or is no longer valid, or where the
    /// first key was made.
    pub async fn refuse_if_revoked(&self, app: &App) -> Result<(), Problem> {
        if self.may_go_on(app).await? {
            return Ok(());
        }
        Err(refuse(match self.key {
            Some(_) => "the API key was revoked, or has ended, while the request was under way",
            None => {
                "the server's first API key was made while the request was under way; send one as: Authorization: Bearer <key>"
            }
        }))
    }
}

/// What each route needs.
#[derive(Clone, Debug, Default)]
pub struct Needs(HashMap<(String, String), Scope>);

impl Needs {
    /// Reads the description. A route that declares nothing needs `admin`; one that declares `security(())` is open.
    pub fn of(description: &OpenApi) -> Self {
        let json = serde_json::to_value(description).expect("a description always encodes");
        let mut needs = HashMap::new();
        for (path, methods) in json["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                let declared = operation["security"][0][SCHEME][0].as_str().and_then(|scope| scope.parse().ok());
                needs.insert((method.to_uppercase(), path.clone()), declared.unwrap_or(Scope::Admin));
            }
        }
        Self(needs)
    }

    /// What a request needs; none where no handler would answer it (the router's 404 or 405 will).
    fn for_request(&self, method: &Method, path: Option<&MatchedPath>) -> Option<Scope> {
        let method = if method == Method::HEAD { "GET" } else { method.as_str() };
        self.0.get(&(method.to_owned(), path?.as_str().to_owned())).copied()
    }
}

/// What stands before the guarded routes.
pub struct Guard {
    app: AppState,
    needs: Needs,
    limits: RateLimits,
}

impl Guard {
    /// A guard of routes with these needs.
    pub fn new(app: AppState, needs: Needs) -> Arc<Self> {
        let limits = RateLimits::new(app.config.limits.requests_per_second);
        Arc::new(Self { app, needs, limits })
    }

    /// Lets the right callers through: 401 without a key, 403 where it is not enough, 429 beyond its rate.
    async fn check(&self, headers: &HeaderMap, needed: Option<Scope>) -> Result<Caller, Problem> {
        let caller = authenticate(&self.app, headers).await?;
        if let Some(needed) = needed.filter(|needed| !caller.scope.covers(*needed)) {
            let detail = format!("this needs a key of scope {needed}; {} has scope {}", caller.name, caller.scope);
            return Err(Problem::forbidden(detail));
        }
        if let Some(key) = caller.key {
            self.limits.check(key)?;
        }
        Ok(caller)
    }
}

/// The layer: checks the caller, and has changes recorded.
pub async fn guard(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let needed = guard.needs.for_request(request.method(), request.extensions().get());
    let caller = match guard.check(request.headers(), needed).await {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    tracing::Span::current().record("caller", caller.name.as_str());
    request.extensions_mut().insert(caller.clone());
    // What only classifies changes nothing; everything else that is no read does.
    let changes = !request.method().is_safe() && needed.is_some_and(|needed| needed > Scope::Predict);
    if changes { audit::recorded(&guard.app, &caller, request, next).await } else { next.run(request).await }
}

/// Who sent these headers.
async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Caller, Problem> {
    let configured = app.config.api_key.as_ref();
    let open = configured.is_none() && app.config.listen.ip().is_loopback() && !app.store.has_keys().await?;
    if open {
        return match from_this_machine(headers) {
            true => Ok(Caller { name: "anyone on this machine".to_owned(), scope: Scope::Admin, key: None }),
            false => Err(refuse(
                "this server has no API key and answers its own machine only, and this came from elsewhere or through a proxy; make \
                 a key with `mixmatch keys create`",
            )),
        };
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    let given = given.ok_or_else(|| refuse("send the API key as: Authorization: Bearer <key>"))?;
    if configured.is_some_and(|key| key.matches(given)) {
        return Ok(Caller { name: "the configured key".to_owned(), scope: Scope::Admin, key: Some(Uuid::nil()) });
    }
    let row = match keys::prefix_of(given) {
        Some(prefix) => app.store.key(prefix).await?,
        None => None,
    };
    let row = row.filter(|row| keys::matches(given, &row.sha256));
    let row = row.ok_or_else(|| refuse("the API key is not the right one"))?;
    if !row.is_live() {
        return Err(refuse(&format!("the API key {} is {}", row.prefix, row.state())));
    }
    Ok(Caller { name: format!("{} ({})", row.name, row.prefix), scope: row.scope, key: Some(row.id) })
}

/// What proxies add. One on this machine that writes its own `Host` would open the server to all who reach it.
const FORWARDED: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];

/// Whether a request was meant for this machine's own address, and sent here. A web page from elsewhere can make a browser send
/// requests here, but not without its own name in `Host` (a name that was rebound) or in `Origin`; where the browser names no
/// origin, as for a picture or a script that the page shows, it says `cross-site`. What is `same-site` comes from another port of
/// this machine, as an `Origin` may.
fn from_this_machine(headers: &HeaderMap) -> bool {
    let local = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        let host = text.split_once("://").map_or(text, |(_, host)| host);
        let host = match host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => host,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    };
    [header::HOST, header::ORIGIN].iter().all(|name| headers.get(name).is_none_or(local))
        && headers.get("sec-fetch-site").is_none_or(|site| site != "cross-site")
        && !FORWARDED.iter().any(|name| headers.contains_key(*name))
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

fn refuse(detail: &str) -> Problem {
    Problem::unauthorized(detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"mixmatch\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_read_in_any_case() {
        assert_eq!(bearer(b"Bearer key"), Some(b"key".as_slice()));
        assert_eq!(bearer(b"bearer  key "), Some(b"key".as_slice()));
        assert_eq!(bearer(b"Basic a2V5"), None);
        assert_eq!(bearer(b"Bearer"), None);
    }

    #[test]
    fn an_open_server_answers_its_own_machine_only() {
        let from = |host: &'static str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            origin.map(|origin| headers.insert(header::ORIGIN, HeaderValue::from_static(origin)));
            from_this_machine(&headers)
        };
        for host in ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "127.8.9.1"] {
            assert!(from(host, None), "{host}");
        }
        assert!(from("127.0.0.1:8080", Some("http://127.0.0.1:8080")));
        for host in ["evil.example", "evil.example:8080", "10.0.0.1", "localhost.evil.example", ""] {
            assert!(!from(host, None), "{host}");
        }
        assert!(!from("127.0.0.1:8080", Some("https://evil.example")));
        assert!(!from("127.0.0.1:8080", Some("null")));
        let with = |name: &'static str, value: &'static str| {
            let headers = [("host", "127.0.0.1:8080"), (name, value)]
                .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)));
            from_this_machine(&HeaderMap::from_iter(headers))
        };
        for name in FORWARDED {
            assert!(!with(name, "203.0.113.9"), "{name}");
        }
        for site in ["none", "same-origin", "same-site"] {
            assert!(with("sec-fetch-site", site), "{site}");
        }
        assert!(!with("sec-fetch-site", "cross-site"));
    }
}

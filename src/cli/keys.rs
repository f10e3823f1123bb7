//! `mixmatch keys`: API keys in the data directory. Nothing here takes the directory's lock: a running server reads
//! the keys with every request, so what is made or revoked here counts there at once.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::DataArgs;
use super::audited::audited;
use super::output::{print_line, tell};
use super::signals::end_with_the_reader;
use crate::data_dir::{DataDir, make_private};
use crate::keys::{FreshKey, Scope};
use crate::store::{KeyRow, NewKey, Store, StoreError};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, once: only its hash is kept.
    Create(CreateArgs),
    /// List the keys, newest first, without their secrets.
    List(ListArgs),
    /// Take a key back; it opens nothing from this moment on.
    Revoke(RevokeArgs),
}

/// Arguments of `keys create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    data: DataArgs,
    /// What it may do: predict (classify), train (also import and run jobs), admin (also delete, move aliases, read
    /// the audit log).
    #[arg(long)]
    scope: Scope,
    /// What it is called, for the log and to revoke it: who or what uses it.
    #[arg(long, value_parser = parse_name)]
    name: String,
    /// When it ends: after a time (90d, 12h), at a time (2027-01-31T00:00:00Z), or never.
    #[arg(long, default_value = "365d", value_parser = parse_expiry)]
    expires: Expiry,
}

/// Arguments of `keys list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Arguments of `keys revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The key's name or prefix (the part between `mm_` and the next `_`).
    key: String,
}

/// When a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    At(Timestamp),
    Never,
}

fn parse_expiry(text: &str) -> Result<Expiry, String> {
    if text == "never" {
        return Ok(Expiry::Never);
    }
    let now = Timestamp::now();
    let end = match text.parse::<jiff::Span>() {
        // Days are of 24 hours: in UTC they always are.
        Ok(span) => now.to_zoned_datetime(TimeZone::UTC).checked_add(span).ok().map(|end| end.timestamp()),
        Err(_) => text.parse().ok(),
    };
    match end {
        Some(end) if end > now => Ok(Expiry::At(end)),
        Some(_) => Err("that is over already".to_owned()),
        None => Err("write a time from now (90d, 12h), a moment (2027-01-31T00:00:00Z), or never".to_owned()),
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    crate::api::check_name("name", text).map(|()| text.to_owned())
}

/// Runs one of them.
pub async fn run(command: KeysCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeysCommand::Create(args) => create(args).await,
        KeysCommand::List(args) => list(args).await,
        KeysCommand::Revoke(args) => revoke(args).await,
    }
}

async fn open(args: &DataArgs) -> anyhow::Result<Store> {
    Ok(Store::open_beside(&DataDir::new(&args.data_dir)).await?)
}

async fn create(args: CreateArgs) -> anyhow::Result<ExitCode> {
    let data = DataDir::new(args.data.data_dir);
    make_private(data.root())?;
    let store = match Store::open_beside(&data).await {
        // The first key may come before the first start: a server beyond loopback wants one to begin with.
        Err(StoreError::NotThere { .. }) => Store::open(&data).await?,
        opened => opened?,
    };
    let key = FreshKey::generate()?;
    let expires_at = match args.expires {
        Expiry::At(end) => Some(end),
        Expiry::Never => None,
    };
    let new = NewKey { name: &args.name, prefix: &key.prefix, sha256: &key.sha256, scope: args.scope, expires_at };
    let others = store.keys().await?;
    let row = audited(&store, "keys create", &args.name, prefix, store.insert_key(new)).await?;
    let shown = print_line(&key.text);
    if shown.is_err() {
        take_back(&store, &row).await?;
    }
    store.close().await;
    shown.with_context(|| format!("key {} was not shown to anybody and is revoked; make another", row.name))?;
    let end = row.expires_at.map_or_else(|| "never ends".to_owned(), |end| format!("ends {end:.0}"));
    let KeyRow { name, prefix, scope, .. } = &row;
    tell(format_args!("key {name} ({prefix}), scope {scope}, {end}; it is shown this once: keep it now"));
    if let Some(hint) = hint(&others, *scope) {
        tell(hint);
    }
    Ok(ExitCode::SUCCESS)
}

/// What whoever holds the only key is to know: since the first was made, be it revoked by now, a server wants one from everybody.
fn hint(others: &[KeyRow], scope: Scope) -> Option<String> {
    let wants = match others {
        [] => "it is the first key here: from now on a server wants one",
        others if others.iter().any(KeyRow::is_live) => return None,
        _ => "no other key opens anything here, and a server wants one",
    };
    let dashboard = match scope {
        Scope::Admin => ", in the dashboard (Key) as well",
        _ => "; for the dashboard: mixmatch keys create --scope admin --name dashboard",
    };
    Some(format!("{wants} from this machine, too{dashboard}"))
}

/// Revokes a key of which nobody has seen the text, nor ever will.
async fn take_back(store: &Store, row: &KeyRow) -> anyhow::Result<()> {
    let revoked = audited(store, "keys revoke", &row.prefix, prefix, store.revoke_key(&row.prefix)).await;
    revoked.with_context(|| format!("key {} ({}) was not shown to anybody; revoke it", row.name, row.prefix))?;
    Ok(())
}

async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    end_with_the_reader();
    let store = open(&args.data).await?;
    let rows = store.keys().await?;
    store.close().await;
    if args.json {
        rows.iter().map(as_json).try_for_each(print_line)?;
        return Ok(ExitCode::SUCCESS);
    }
    print_line(format_args!(
        "{:<10} {:<8} {:<8} {:<21} {:<21} NAME",
        "PREFIX", "SCOPE", "STATE", "CREATED", "EXPIRES"
    ))?;
    for row in &rows {
        let end = row.expires_at.map_or_else(|| "never".to_owned(), |end| format!("{end:.0}"));
        let created = format!("{:.0}", row.created_at);
        print_line(format_args!(
            "{:<10} {:<8} {:<8} {created:<21} {end:<21} {}",
            row.prefix,
            row.scope.as_str(),
            row.state(),
            row.name
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(row: &KeyRow) -> serde_json::Value {
    serde_json::json!({
        "id": row.id, "name": row.name, "prefix": row.prefix, "scope": row.scope.as_str(), "state": row.state(),
        "created_at": row.created_at, "expires_at": row.expires_at, "revoked_at": row.revoked_at,
    })
}

async fn revoke(args: RevokeArgs) -> anyhow::Result<ExitCode> {
    let store = open(&args.data).await?;
    let row = audited(&store, "keys revoke", &args.key, prefix, store.revoke_key(&args.key)).await?;
    store.close().await;
    tell(format_args!("key {} ({}) is revoked", row.name, row.prefix));
    Ok(ExitCode::SUCCESS)
}

/// What the audit calls a key by.
fn prefix(row: &KeyRow) -> Option<String> {
    Some(row.prefix.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_ends_after_a_time_at_a_time_or_never() {
        let now = Timestamp::now();
        let Ok(Expiry::At(end)) = parse_expiry("90d") else { panic!("90d") };
        assert_eq!(end.duration_since(now).as_hours(), 90 * 24);
        assert_eq!(parse_expiry("never"), Ok(Expiry::Never));
        assert_eq!(parse_expiry("2999-01-31T00:00:00Z"), Ok(Expiry::At("2999-01-31T00:00:00Z".parse().unwrap())));
        for wrong in ["", "soon", "-1h", "2001-01-31T00:00:00Z", "90"] {
            assert!(parse_expiry(wrong).is_err(), "{wrong}");
        }
    }
}

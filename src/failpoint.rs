//! Named points in the code at which tests make something fail, a process die, or the clock jump.
//!
//! `MIXMATCH_FAIL=checkpoint.rename=kill@3,artifact.write=enospc` switches points on for a process (and the children
//! it starts): the third rename of a checkpoint ends the process as `kill -9` would, and every write of an artifact
//! finds the disk full (`enospc@1-3`: the first three). A point that is not named costs one look at a list that is empty. In release builds all of
//! this is compiled to nothing: a variable that somebody left set cannot hurt a service.

/// What a point does when it is passed.
#[cfg(debug_assertions)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// The process ends at once, as with SIGKILL.
    Kill,
    /// The thread sleeps for ever.
    Hang,
    /// The system call fails with this number.
    Error(i32),
}

#[cfg(debug_assertions)]
#[derive(Debug)]
struct Point {
    name: String,
    action: Action,
    /// Passes so far.
    passed: std::sync::atomic::AtomicU64,
    /// The passes at which it acts, counted from 1.
    acts: std::ops::RangeInclusive<u64>,
}

#[cfg(debug_assertions)]
static POINTS: std::sync::OnceLock<Vec<Point>> = std::sync::OnceLock::new();

/// Passes the point `name`.
///
/// # Errors
/// The system error that the point was told to give; never in a release build.
#[cfg(debug_assertions)]
pub fn pass(name: &str) -> std::io::Result<()> {
    let points = POINTS.get_or_init(|| match std::env::var("MIXMATCH_FAIL") {
        Ok(text) => parse(&text).unwrap_or_else(|error| panic!("MIXMATCH_FAIL: {error}")),
        Err(_) => Vec::new(),
    });
    let Some(point) = points.iter().find(|point| point.name == name) else { return Ok(()) };
    if !point.acts.contains(&(point.passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1)) {
        return Ok(());
    }
    match point.action {
        Action::Kill => {
            // SAFETY: a plain system call on this very process.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            // The signal may take a moment to be delivered; nothing more may happen meanwhile.
            loop {
                std::thread::park();
            }
        }
        Action::Hang => loop {
            std::thread::park();
        },
        Action::Error(number) => Err(std::io::Error::from_raw_os_error(number)),
    }
}

/// Passes the point `name`, which in a release build is nothing.
///
/// # Errors
/// Never.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn pass(_name: &str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(debug_assertions)]
fn parse(text: &str) -> Result<Vec<Point>, String> {
    let point = |part: &str| {
        let (name, rest) = part.split_once('=').ok_or_else(|| format!("{part:?}: write point=action@pass"))?;
        let (action, passes) = rest.split_once('@').unwrap_or((rest, "1"));
        let (first, last) = passes.split_once('-').map_or((passes, None), |(first, last)| (first, Some(last)));
        let pass = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is no number of a pass"));
        let acts = pass(first)?..=last.map(pass).transpose()?.unwrap_or(u64::MAX);
        let action = match action {
            "kill" => Action::Kill,
            "hang" => Action::Hang,
            "error" => Action::Error(libc::EIO),
            "enospc" => Action::Error(libc::ENOSPC),
            "edquot" => Action::Error(libc::EDQUOT),
            "erofs" => Action::Error(libc::EROFS),
            _ => return Err(format!("no action {action:?}; there are kill, hang, error, enospc, edquot, erofs")),
        };
        Ok(Point { name: name.trim().to_owned(), action, passed: 0.into(), acts })
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(point).collect()
}

#[cfg(debug_assertions)]
thread_local! {
    static CLOCK: std::cell::Cell<i64> = const { std::cell::Cell::new(0) };
}

/// Moves what [`clock_shift`] says on this thread, milliseconds: as if somebody had set the clock.
#[cfg(all(test, debug_assertions))]
pub fn shift_clock(milliseconds: i64) {
    CLOCK.set(milliseconds);
}

/// How far a test has moved this thread's clock, milliseconds; 0 in a release build.
pub fn clock_shift() -> i64 {
    #[cfg(debug_assertions)]
    return CLOCK.get();
    #[cfg(not(debug_assertions))]
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_variable_may_say() {
        let points = parse("checkpoint.rename=kill@3, artifact.write=enospc").unwrap();
        assert_eq!((points[0].name.as_str(), points[0].action), ("checkpoint.rename", Action::Kill));
        assert_eq!(points[0].acts, 3..=u64::MAX);
        assert_eq!((points[1].action, points[1].acts.clone()), (Action::Error(libc::ENOSPC), 1..=u64::MAX));
        assert_eq!(parse("a=error@2-5").unwrap()[0].acts, 2..=5);
        assert_eq!(parse("artifact.write=edquot").unwrap()[0].action, Action::Error(libc::EDQUOT));
        for wrong in ["checkpoint", "a=explode", "a=kill@x", "a=kill@2-"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_point_that_nobody_named_does_nothing() {
        pass("nowhere").unwrap();
    }
}

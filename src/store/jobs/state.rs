//! The state machine of a job, written once.
//!
//! ```text
//! queued ──claim──▶ running ──▶ succeeded
//!   │  ▲               │  │
//!   │  └──requeue──────┘  ├──▶ failed ──retry──▶ queued
//!   ├──cancel──▶ canceled ◀┤      canceled ──retry──▶ queued
//!   └──pause───▶ paused ◀──┘      paused ──resume──▶ queued
//!                              paused ──cancel──▶ canceled
//! ```

use std::str::FromStr;

use serde::Deserialize;
use utoipa::ToSchema;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for a slot.
    Queued,
    /// A child process works on it.
    Running,
    /// Waits until somebody resumes it, with its last checkpoint.
    Paused,
    /// Published a model.
    Succeeded,
    /// Ended with a reason.
    Failed,
    /// Ended because somebody asked.
    Canceled,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Paused, Self::Succeeded, Self::Failed, Self::Canceled];

    /// The state's stable word, in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Nothing happens to the job any more unless somebody retries it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }

    /// Where several jobs stand as one: what is true of the whole. Running from the first claim to the last end,
    /// paused where nothing else is left to do; succeeded when all of them are, else failed where one has.
    pub fn of_all(states: &[Self]) -> Self {
        let all = |wanted: Self| states.iter().all(|state| *state == wanted);
        if all(Self::Queued) {
            Self::Queued
        } else if states.contains(&Self::Paused)
            && states.iter().all(|state| state.is_final() || *state == Self::Paused)
        {
            Self::Paused
        } else if !states.iter().all(|state| state.is_final()) {
            Self::Running
        } else if all(Self::Succeeded) {
            Self::Succeeded
        } else if states.contains(&Self::Failed) {
            Self::Failed
        } else {
            Self::Canceled
        }
    }

    /// Whether a job may go from this state to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use JobState::{Canceled, Failed, Paused, Queued, Running, Succeeded};
        matches!(
            (self, next),
            (Queued, Running | Paused | Canceled)
                | (Running, Queued | Paused | Succeeded | Failed | Canceled)
                | (Paused, Queued | Canceled)
                | (Failed | Canceled, Queued)
        )
    }
}

impl FromStr for JobState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

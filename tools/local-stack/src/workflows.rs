//! The type of workflow of a stack.

use clap::ValueEnum;

/// The type of workflow that a stack runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Workflows {
    /// At most one execution of a name.
    #[default]
    Standard,
    /// At least one, with a history in logs only.
    Express,
}

impl Workflows {
    /// The name of a check that starts a stack with such workflows.
    pub fn title(self) -> &'static str {
        match self {
            Self::Standard => "local stack with STANDARD workflows",
            Self::Express => "local stack with EXPRESS workflows",
        }
    }

    /// The template's parameter `StateMachineType`.
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::Express => "EXPRESS",
        }
    }
}

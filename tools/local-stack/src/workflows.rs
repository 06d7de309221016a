//! The type of workflow of a stack.

use clap::ValueEnum;

/// The type of workflow that a stack runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Workflows {
    /// Step Functions runs at most one execution of a name.
    #[default]
    Standard,
    /// Step Functions runs at least one execution of a name, with a history in logs only.
    Express,
}

impl Workflows {
    /// Returns the name of the check that starts a stack with such workflows.
    pub fn title(self) -> &'static str {
        match self {
            Self::Standard => "local stack with STANDARD workflows",
            Self::Express => "local stack with EXPRESS workflows",
        }
    }

    /// Returns the value of the template's parameter `StateMachineType`.
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::Express => "EXPRESS",
        }
    }
}

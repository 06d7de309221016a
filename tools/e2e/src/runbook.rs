//! The page of an alarm, which a test follows as it stands.

use std::{fs, path::Path};

use crate::{Stack, run_custody};

/// The page of an alarm.
#[derive(Debug)]
pub struct Runbook(String);

impl Runbook {
    /// Reads the page of this alarm.
    pub fn of(alarm: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .expect("the workspace")
            .join("docs/runbooks");
        Self(fs::read_to_string(folder.join(alarm).with_extension("md")).expect("each alarm has a page"))
    }

    /// Returns the commands of a section, each with the text that it prints when all is well, if the page names one.
    pub fn commands(&self, section: &str) -> Vec<(String, String)> {
        let (_, rest) = self.0.split_once(&format!("\n## {section}\n")).expect(section);
        let text = rest.split("\n## ").next().unwrap_or_default();
        let blocks = text.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
        let lines = blocks.flat_map(str::lines).map(|line| line.split_once(" # ").unwrap_or((line, "")));
        lines.map(|(command, shown)| (command.trim().to_owned(), shown.trim().to_owned())).collect()
    }

    /// Runs the commands of the section "Look". Returns what they print.
    pub fn look(&self) -> String {
        self.commands("Look").iter().map(|(command, _)| run_line(command).1).collect()
    }

    /// Runs the commands of the section "Mend", if it has any.
    pub fn mend(&self) {
        for (command, _) in self.commands("Mend") {
            let (status, printed) = run_line(&command);
            assert_eq!(status, 0, "{command}: {printed}");
        }
    }

    /// Waits until the commands of the last section print what the page promises.
    pub async fn is_over(&self, stack: &Stack) {
        let commands = self.commands("It is over");
        assert!(commands.iter().any(|(_, shown)| !shown.is_empty()), "the page says when it is over");
        for (command, shown) in commands {
            let done = async || {
                let (status, printed) = run_line(&command);
                (status == 0 && printed.contains(&shown)).then_some(())
            };
            stack.eventually(&format!("`{command}` shows `{shown}`"), done).await;
        }
    }
}

/// Runs a command line of the operator's tool, as a page has it. Returns its exit status and what it printed.
pub fn run_line(command: &str) -> (i32, String) {
    let arguments: Vec<_> = command.strip_prefix("custody ").expect(command).split_whitespace().collect();
    run_custody(&arguments)
}

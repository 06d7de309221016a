//! `custody status`: one screen with what an operator on call looks at first. It is drawn again and again in a terminal, and once elsewhere.
//! It only counts and reads: it takes no message off a queue, not for a moment.

mod figures;
mod metrics;
mod screen;

use std::{io::IsTerminal as _, time::Duration};

use clap::Args;
use custody_core::clock::{Clock as _, SystemClock};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use self::{figures::Figures, screen::Screen};
use crate::{CommandOutcome, arguments::parse_duration, deployment::Deployment, output::Output};

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Time between two looks.
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    every: Duration,
    /// Look once, and print the screen as text.
    #[arg(long)]
    once: bool,
}

pub(crate) async fn run(
    deployment: &Deployment,
    output: Output,
    options: Options,
) -> anyhow::Result<CommandOutcome> {
    if output.json || options.once || !std::io::stdout().is_terminal() {
        let figures = Box::pin(Figures::read(deployment, SystemClock.now())).await;
        output.print(&figures, |figures| println!("{}", Screen { figures, every: None }.text()))?;
    } else {
        let mut terminal = ratatui::try_init()?;
        let shown = show(deployment, &mut terminal, options.every).await;
        ratatui::try_restore()?;
        shown?;
    }
    Ok(CommandOutcome::Complete)
}

/// Returns how many receipts were given in the last five minutes, and how many of them without the cache.
pub(crate) async fn recent_receipts(deployment: &Deployment) -> anyhow::Result<(u64, u64)> {
    let receipts = metrics::receipts(deployment, SystemClock.now()).await?;
    let recent = receipts.per_minute.iter().rev().take(metrics::RATE_MINUTES).sum();
    Ok((recent, receipts.fallbacks))
}

/// Draws the screen until a person ends it.
async fn show(
    deployment: &Deployment,
    terminal: &mut ratatui::DefaultTerminal,
    every: Duration,
) -> anyhow::Result<()> {
    let look_after = async |pause| {
        tokio::time::sleep(pause).await;
        Box::pin(Figures::read(deployment, SystemClock.now())).await
    };
    let (mut keys, mut figures) = (keys(), None);
    let mut next = Box::pin(look_after(Duration::ZERO));
    loop {
        terminal.draw(|frame| match &figures {
            Some(figures) => Screen { figures, every: Some(every) }.draw(frame),
            None => frame.render_widget("looking …", frame.area()),
        })?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(Key::Quit) | None => return Ok(()),
                Some(Key::Redraw) => {}
            },
            read = &mut next => {
                figures = Some(read);
                next.set(look_after(every));
            }
        }
    }
}

/// What a person does at the terminal.
enum Key {
    Quit,
    /// The terminal has another size, or another key was pressed.
    Redraw,
}

/// Reads the keys on a thread of their own, because the terminal is read in calls that block.
fn keys() -> mpsc::Receiver<Key> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(key_of(&event)).is_err() {
                return;
            }
        }
    });
    receiver
}

fn key_of(event: &Event) -> Key {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
            _ => Key::Redraw,
        },
        _ => Key::Redraw,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn the_usual_keys_end_the_screen_and_others_do_not() {
        let quits =
            |code, modifiers| matches!(key_of(&Event::Key(KeyEvent::new(code, modifiers))), Key::Quit);
        assert!(quits(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(quits(KeyCode::Esc, KeyModifiers::NONE));
        assert!(quits(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!quits(KeyCode::Char('c'), KeyModifiers::NONE));
        assert!(matches!(key_of(&Event::Resize(80, 24)), Key::Redraw));
    }
}

//! Draws the screen: in a terminal, or as text.

use std::time::Duration;

use bytesize::ByteSize;
use ratatui::{
    Frame, Terminal,
    backend::TestBackend,
    buffer::Cell,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize as _},
    text::{Line, Text},
    widgets::{Block, Paragraph, Sparkline},
};

use super::{
    figures::{Cause, Figures},
    metrics,
};
use crate::output::{cut_in_the_middle, format_count, format_duration};

/// The size of the screen as text.
const WIDTH: u16 = 80;
const HEIGHT: u16 = 24;

/// What is shown where a part could not be asked.
const UNKNOWN: &str = "not known";

/// What `custody status` shows at one moment.
pub(super) struct Screen<'a> {
    pub(super) figures: &'a Figures,
    /// The time between two looks; `None` for a single look.
    pub(super) every: Option<Duration>,
}

impl Screen<'_> {
    /// Returns the screen as text of 80 columns.
    pub(super) fn text(&self) -> String {
        let Ok(mut terminal) = Terminal::new(TestBackend::new(WIDTH, HEIGHT));
        let Ok(_) = terminal.draw(|frame| self.draw(frame));
        let buffer = terminal.backend().buffer();
        let rows = buffer.content().chunks(usize::from(WIDTH));
        let rows = rows.map(|row| row.iter().map(Cell::symbol).collect::<String>());
        rows.map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n").trim_end().to_owned()
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let problems = u16::try_from(self.figures.problems.len().min(3)).unwrap_or_default();
        let [head, top, causes, bottom, below, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(7),
            Constraint::Min(4),
            Constraint::Length(6),
            Constraint::Length(problems),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let [receipts, open] =
            Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(top);
        let [queues, cache, alarms] =
            Layout::horizontal([Constraint::Length(26), Constraint::Length(20), Constraint::Min(20)])
                .areas(bottom);
        frame.render_widget(self.head(), head);
        self.draw_receipts(frame, receipts);
        frame.render_widget(self.open().block(titled("In progress")), open);
        frame.render_widget(self.causes(causes).block(titled("Failed records, by cause")), causes);
        frame.render_widget(self.queues().block(titled("Queues")), queues);
        frame.render_widget(self.cache().block(titled("Cache")), cache);
        frame.render_widget(self.alarms().block(titled("Alarms: docs/runbooks")), alarms);
        frame.render_widget(self.problems(below), below);
        frame.render_widget(
            "custody failed, dlq list, open: the lists   custody trace ID: one record".dim(),
            foot,
        );
    }

    fn head(&self) -> Line<'_> {
        let at = self.figures.at.map(|at| at.to_string()).unwrap_or_default();
        let keys = self.every.map(|every| format!("   every {}, q ends", format_duration(every)));
        Line::from(format!("{}   {at}{}", self.figures.stack, keys.unwrap_or_default())).bold()
    }

    fn draw_receipts(&self, frame: &mut Frame<'_>, area: Rect) {
        let block = titled(&format!("Receipts of {} min", metrics::MINUTES));
        let inside = block.inner(area);
        frame.render_widget(block, area);
        let Some(receipts) = &self.figures.receipts else {
            frame.render_widget(UNKNOWN, inside);
            return;
        };
        let [bars, text] = Layout::vertical([Constraint::Min(2), Constraint::Length(3)]).areas(inside);
        // The newest minute is at the right.
        let width = usize::from(bars.width);
        let shown = &receipts.per_minute[receipts.per_minute.len().saturating_sub(width)..];
        frame.render_widget(Sparkline::default().data(shown).style(Style::new().fg(Color::Cyan)), bars);
        let minutes = metrics::RATE_MINUTES;
        let recent: u64 = receipts.per_minute.iter().rev().take(minutes).sum();
        let per_second = |count: u64| {
            // Rates of a screen: their last digits do not matter.
            #[expect(clippy::cast_precision_loss, reason = "a rate for a person")]
            let rate = count as f64 / metrics::rate_time().as_secs_f64();
            rate
        };
        let lines = vec![
            Line::from(format!("last {minutes} min: {recent}, {:.1} a second", per_second(recent))),
            Line::from(format!("{}", ByteSize::b(receipts.bytes).display().si())),
            Line::from(vec![
                warned(receipts.rejections, format!("{} rejected", receipts.rejections)),
                ", ".into(),
                warned(receipts.fallbacks, format!("{} without the cache", receipts.fallbacks)),
            ]),
        ];
        frame.render_widget(Paragraph::new(lines), text);
    }

    fn open(&self) -> Paragraph<'static> {
        let Some(open) = &self.figures.open else { return Paragraph::new(UNKNOWN) };
        let oldest = Duration::from_secs(open.oldest_age_seconds);
        let total = match open.in_progress {
            0 => "no record".to_owned(),
            count => {
                let count = format_count(count, open.at_least, "record", "records");
                format!("{count}, the oldest {}", format_duration(oldest))
            }
        };
        Paragraph::new(vec![
            Line::from(total),
            Line::from(format!("{:>7} under a minute", open.under_a_minute)),
            Line::from(format!("{:>7} under ten minutes", open.under_ten_minutes)),
            Line::from(warned(
                open.under_an_hour as u64 + open.older as u64,
                format!("{:>7} under an hour, {} older", open.under_an_hour, open.older),
            )),
            open.markers.map_or_else(
                || "acceptance markers: not known".yellow().into(),
                |count| {
                    let text =
                        format_count(count, open.markers_at_least, "acceptance marker", "acceptance markers");
                    Line::from(warned(count as u64, text))
                },
            ),
        ])
    }

    fn causes(&self, area: Rect) -> Paragraph<'static> {
        let Some(failures) = &self.figures.failures else { return Paragraph::new(UNKNOWN) };
        if failures.count == 0 {
            return Paragraph::new("No failed record waits for a decision.".green());
        }
        let width = usize::from(area.width.saturating_sub(2));
        let mut lines: Vec<Line<'_>> =
            failures.causes.iter().flat_map(|cause| cause_lines(cause, width)).collect();
        let rest = failures.count.saturating_sub(failures.read);
        if rest > 0 {
            let least = if failures.at_least { "at least " } else { "" };
            lines.push(Line::from(format!("{least}{rest} more, not read")));
        }
        if let Some(due) = failures.next_redrive_at {
            let now = self.figures.at.unwrap_or(due);
            let next = crate::redrives::due(due, now);
            lines.push(Line::from(format!("{} wait for a redrive, next: {next}", failures.redrives_noted)));
        }
        // Where not all fit, the last line says so.
        let height = usize::from(area.height.saturating_sub(2));
        if lines.len() > height && height > 0 {
            let left = lines.len() - (height - 1);
            lines.truncate(height - 1);
            lines.push(Line::from(format!("… {left} more lines: `custody failed`")));
        }
        Paragraph::new(Text::from(lines))
    }

    fn queues(&self) -> Paragraph<'static> {
        let queues = &self.figures.queues;
        let line = |what: &str, count: Option<u64>, warns: bool| {
            let text =
                format!("{what:<17}{}", count.map_or_else(|| "-".to_owned(), |count| count.to_string()));
            Line::from(if warns { warned(count.unwrap_or_default(), text) } else { text.into() })
        };
        Paragraph::new(vec![
            line("dead letters", queues.dead_letters, true),
            line("redrives", queues.redrives, false),
            line("rejected", queues.rejected_requests, false),
        ])
    }

    fn cache(&self) -> Paragraph<'static> {
        let Some(cache) = &self.figures.cache else { return Paragraph::new(UNKNOWN) };
        let line = |what: &str, percent: Option<f64>| {
            let text = percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.0} %"));
            let text = format!("{what:<10}{text}");
            Line::from(if percent.is_some_and(|percent| percent > 75.0) { text.red() } else { text.into() })
        };
        Paragraph::new(vec![line("memory", cache.memory_percent), line("processor", cache.processor_percent)])
    }

    fn alarms(&self) -> Paragraph<'static> {
        let Some(alarms) = &self.figures.alarms else { return Paragraph::new(UNKNOWN) };
        let mut lines: Vec<_> = alarms.ringing.iter().map(|alarm| Line::from(alarm.text().red())).collect();
        let quiet = alarms.count - alarms.ringing.len() - alarms.without_data;
        if lines.is_empty() && quiet > 0 {
            lines.push(Line::from("none rings".green()));
        }
        if alarms.without_data > 0 {
            lines.push(Line::from(format!("{} of {} have no data", alarms.without_data, alarms.count)));
        }
        if alarms.without_data == alarms.count {
            lines.push(Line::from("(a new or local stack)"));
        }
        Paragraph::new(lines)
    }

    fn problems(&self, area: Rect) -> Paragraph<'static> {
        let width = usize::from(area.width);
        let lines =
            self.figures.problems.iter().map(|text| Line::from(cut_in_the_middle(text, width).yellow()));
        Paragraph::new(lines.collect::<Vec<_>>())
    }
}

/// A cause, and below it what helps.
fn cause_lines(cause: &Cause, width: usize) -> [Line<'static>; 2] {
    let age = format_duration(Duration::from_secs(cause.oldest_age_seconds));
    let what = format!("{:>6}  {}: {}, oldest {age}", cause.count, cause.stage, cause.error_name);
    [cut_in_the_middle(&what, width).red().into(), format!("        {}", cause.remedy.text()).into()]
}

fn titled(title: &str) -> Block<'static> {
    Block::bordered().title(format!(" {title} "))
}

/// Colours a text if there is anything to count.
fn warned(count: u64, text: String) -> ratatui::text::Span<'static> {
    if count > 0 { text.yellow() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use custody_core::{clock::Timestamp, remedy::Remedy};

    use super::{
        super::{
            figures::{Failures, Open, Queues},
            metrics::{Alarm, Alarms, Cache, Receipts},
        },
        *,
    };

    fn cause(count: usize, stage: &str, error_name: &str) -> Cause {
        Cause {
            stage: stage.to_owned(),
            error_name: error_name.to_owned(),
            remedy: Remedy::of(error_name),
            count,
            oldest_age_seconds: 754,
        }
    }

    fn figures_of_an_outage() -> Figures {
        let at = Timestamp::parse("2026-11-29T03:12:00Z").unwrap();
        Figures {
            stack: "custody".to_owned(),
            at: Some(at),
            receipts: Some(Receipts {
                per_minute: (0..30)
                    .map(|minute| if minute < 20 { 600 } else { 60 * (30 - minute) })
                    .collect(),
                bytes: 1_250_000_000,
                fallbacks: 3,
                rejections: 0,
            }),
            open: Some(Open {
                in_progress: 412,
                under_a_minute: 400,
                under_ten_minutes: 12,
                oldest_age_seconds: 240,
                markers: Some(0),
                ..Open::default()
            }),
            failures: Some(Failures {
                count: 240,
                at_least: false,
                read: 200,
                causes: vec![cause(199, "archive", "AccessDenied"), cause(1, "archive", "PayloadLost")],
                redrives_noted: 12,
                next_redrive_at: Some(at.after(Duration::from_mins(4))),
            }),
            queues: Queues { dead_letters: Some(228), redrives: Some(12), rejected_requests: Some(0) },
            cache: Some(Cache { memory_percent: Some(81.4), processor_percent: Some(7.0) }),
            alarms: Some(Alarms {
                count: 16,
                without_data: 0,
                ringing: vec![Alarm {
                    name: "custody-FailedRecordAlarm-1".to_owned(),
                    runbook: Some("docs/runbooks/FailedRecordAlarm.md".to_owned()),
                }],
            }),
            problems: Vec::new(),
        }
    }

    #[test]
    fn an_outage_fits_on_one_screen() {
        let figures = figures_of_an_outage();
        insta::assert_snapshot!(Screen { figures: &figures, every: None }.text());
    }

    #[test]
    fn what_needs_a_person_has_a_colour() {
        let figures = figures_of_an_outage();
        let Ok(mut terminal) = Terminal::new(TestBackend::new(WIDTH, HEIGHT));
        let Ok(_) = terminal.draw(|frame| Screen { figures: &figures, every: None }.draw(frame));
        let rows = terminal.backend().buffer().content().chunks(usize::from(WIDTH));
        let colour_of = |text: &str| {
            rows.clone().find_map(|row| {
                let symbols: String = row.iter().map(|cell| cell.symbol().chars().next().unwrap()).collect();
                let at = symbols.find(text)?;
                Some(row[symbols[..at].chars().count()].fg)
            })
        };
        assert_eq!(colour_of("FailedRecordAlarm"), Some(Color::Red));
        assert_eq!(colour_of("228"), Some(Color::Yellow), "dead letters");
        assert_eq!(colour_of("archive: AccessDenied"), Some(Color::Red), "a cause");
        assert_eq!(colour_of("mend the cause"), Some(Color::Reset), "what helps is text");
    }

    #[test]
    fn alarms_that_nothing_evaluates_are_no_riddle() {
        let alarms = Some(Alarms { count: 16, without_data: 16, ringing: Vec::new() });
        let figures = Figures { alarms, ..Figures::default() };
        let text = Screen { figures: &figures, every: None }.text();
        assert!(
            text.contains("16 of 16 have no data")
                && text.contains("(a new or local stack)")
                && !text.contains("none rings"),
            "{text}"
        );
    }

    #[test]
    fn what_cannot_be_asked_is_said_and_is_no_zero() {
        let figures = Figures {
            stack: "custody".to_owned(),
            problems: vec!["alarms: AccessDenied: may not describe alarms".to_owned()],
            ..Figures::default()
        };
        insta::assert_snapshot!(Screen { figures: &figures, every: Some(Duration::from_secs(5)) }.text());
    }

    #[test]
    fn causes_that_do_not_fit_are_counted() {
        let causes = (1..20).map(|number| cause(number, "archive", "ServiceRefused")).collect();
        let failures = Failures { count: 19, read: 19, causes, ..Failures::default() };
        let figures = Figures { failures: Some(failures), ..Figures::default() };
        assert!(Screen { figures: &figures, every: None }.text().contains("more lines: `custody failed`"));
    }
}

//! Groups what failed by what went wrong, for a terminal.

use custody_core::remedy::Remedy;

use crate::output::cut_in_the_middle;

/// The width of a line for a terminal.
const WIDTH: usize = 80;
/// The space before the lines of a group, whose count stands there.
pub(crate) const INDENT: &str = "        ";
/// The longest cause, in characters: some four lines. The denied action is in the middle of what IAM says.
const LONGEST_CAUSE: usize = 280;

/// Returns what went wrong without the words that differ from record to record: ids, keys, times.
pub(crate) fn cause_of(error_name: &str, reason: &str) -> String {
    let is_of_one_record = |word: &&str| {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        let is_number = digits >= 5 && digits == word.trim_end_matches([',', ';']).len();
        is_number || (word.len() >= 12 && digits >= 6 && !word.starts_with("arn:"))
    };
    let words = reason.split_whitespace().map(|word| if is_of_one_record(&word) { "…" } else { word });
    let cause = words.collect::<Vec<_>>().join(" ");
    if error_name.is_empty() { cause } else { format!("{error_name}: {cause}") }
}

/// Says what helps. A parked record is redriven only by a person who insists.
pub(crate) fn helps(remedy: Remedy, parked: bool) -> String {
    match remedy {
        Remedy::Wait if parked => "redrive with --force".to_owned(),
        Remedy::CompareThenDecide => remedy.text().to_owned(),
        _ if parked && remedy.text().ends_with("redrive") => format!("{} with --force", remedy.text()),
        _ => remedy.text().to_owned(),
    }
}

/// Returns a cause in lines of at most 80 characters, indented but for the first.
pub(crate) fn in_lines(cause: &str) -> String {
    let lines = wrapped(&cut_in_the_middle(cause, LONGEST_CAUSE), WIDTH - INDENT.len());
    lines.join(&format!("\n{INDENT}"))
}

/// Breaks a text between words into lines of at most `width` characters. A longer word, such as an ARN, goes on in the next line.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => {
                let characters: Vec<char> = word.chars().collect();
                lines.extend(characters.chunks(width).map(String::from_iter));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_record_needs_force_where_a_redrive_helps() {
        assert_eq!(helps(Remedy::Wait, true), "redrive with --force");
        assert_eq!(helps(Remedy::Wait, false), "passes by itself");
        assert_eq!(helps(Remedy::MendThenRedrive, true), "mend the cause, then redrive with --force");
        assert_eq!(helps(Remedy::CompareThenDecide, true), Remedy::CompareThenDecide.text());
        assert_eq!(helps(Remedy::ReadThenDiscard, true), Remedy::ReadThenDiscard.text());
    }

    #[test]
    fn a_cause_is_the_same_for_every_record_and_is_shown_whole() {
        let denied = |id: &str| format!("store object 2026/11/21/22/21/{id}: AccessDenied: no");
        let cause = cause_of("ServiceRefused", &denied("01a1fbef-29cf-7048-8325-51c19852b219"));
        assert_eq!(cause, "ServiceRefused: store object … AccessDenied: no");
        assert_eq!(cause, cause_of("ServiceRefused", &denied("01a1fbef-29cf-7048-8325-51c19852b220")));
        assert_eq!(
            cause_of("", "an event of 6500000 bytes, limit 6291456; 42"),
            "an event of … bytes, limit … 42"
        );
        assert_eq!(cause_of("", "not a dead letter"), "not a dead letter");
        let arn = format!("arn:aws:sts::000000000000:assumed-role/{}", "R".repeat(60));
        let text = in_lines(&format!("User: {arn} is not authorized"));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.replace(['\n', ' '], "").contains(&arn), "an ARN is shown whole: {text}");
    }
}

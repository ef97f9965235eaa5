//! Which names a pattern means: `*` stands for any characters, `?` for one. A pattern with neither means the names that it is
//! a part of.

use unicode_normalization::UnicodeNormalization as _;

/// A pattern for names.
pub(super) struct Pattern(Vec<char>);

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        let text = if text.contains(['*', '?']) { text.to_owned() } else { format!("*{text}*") };
        Self(text.nfc().collect())
    }

    /// Takes time in the product of the lengths, at most.
    pub(super) fn fits(&self, name: &str) -> bool {
        let (pattern, name): (_, Vec<char>) = (&self.0, name.nfc().collect());
        let (mut at, mut of_name) = (0, 0);
        // The last star, and where in the name what it stands for ends.
        let mut star: Option<(usize, usize)> = None;
        while of_name < name.len() {
            match (pattern.get(at), star) {
                (Some('*'), _) => {
                    star = Some((at, of_name));
                    at += 1;
                }
                (Some(&character), _) if character == '?' || character == name[of_name] => {
                    at += 1;
                    of_name += 1;
                }
                (_, Some((star_at, end))) => {
                    star = Some((star_at, end + 1));
                    (at, of_name) = (star_at + 1, end + 1);
                }
                (_, None) => return false,
            }
        }
        pattern[at..].iter().all(|character| *character == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).fits(name)
    }

    #[test]
    fn stars_and_question_marks_stand_for_characters() {
        assert!(fits("plan*", "plan") && fits("plan*", "plans of May") && !fits("plan*", "a plan"));
        assert!(fits("*.json", "a.json") && !fits("*.json", "a.json.bak"));
        assert!(fits("?lan", "plan") && !fits("?lan", "lan"));
        assert!(fits("*a*b*c*", "xxaxxbxxcxx") && !fits("*a*b*c*", "xxcxxbxxaxx"));
        assert!(fits("*", "") && fits("**", "x") && !fits("?", ""));
        assert!(fits("*ab", "aab") && fits("a*ab", "aabab"));
    }

    #[test]
    fn a_plain_word_means_the_names_it_is_part_of() {
        assert!(fits("plan", "my plan b") && !fits("plan", "pla n") && fits("", "anything"));
        assert!(fits("caf\u{e9}", "un cafe\u{301}"));
    }
}

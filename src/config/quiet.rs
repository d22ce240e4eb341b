//! Times of the day at which nobody is to be disturbed.

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// A time of every day: `22:00-06:00 UTC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// Where it begins, in microseconds after midnight UTC; less than a day.
    begin: i64,
    /// How long it lasts, in microseconds: longer than zero, shorter than a day.
    length: i64,
}

impl Quiet {
    /// Reads `22:00-06:00 UTC` or `22:00-06:00 +02:00`. A time zone with summer time is not understood.
    ///
    /// # Errors
    /// What to write instead; the text is not repeated.
    pub fn parse(text: &str) -> Result<Quiet, &'static str> {
        const FORM: &str = "write e.g. `22:00-06:00 UTC` or `22:00-06:00 +02:00`";
        let (times, zone) = text.trim().split_once(' ').ok_or(FORM)?;
        let (from, to) = times.split_once('-').ok_or(FORM)?;
        let (from, to) = (minutes(from, 24).ok_or(FORM)?, minutes(to, 24).ok_or(FORM)?);
        let offset = match zone.trim() {
            "UTC" | "Z" => 0,
            zone => {
                let (sign, rest) = match (zone.strip_prefix('+'), zone.strip_prefix('-')) {
                    (Some(rest), _) => (1, rest),
                    (_, Some(rest)) => (-1, rest),
                    _ => return Err(FORM),
                };
                sign * minutes(rest, 15).ok_or(FORM)?
            }
        };
        if from == to {
            return Err("the two times are the same: write two different ones");
        }
        Ok(Quiet {
            begin: ((from - offset) * MINUTE).rem_euclid(DAY),
            length: ((to - from) * MINUTE).rem_euclid(DAY),
        })
    }

    /// When it ends, where a moment lies in it.
    fn end(self, now: i64) -> Option<i64> {
        let since = now.checked_sub(self.begin)?.rem_euclid(DAY);
        (since < self.length).then(|| now.saturating_add(self.length - since))
    }

    /// When it is not quiet any more, where it is at a moment, in microseconds since the epoch. Times that follow each other are one; where they
    /// fill the day there is no end, and the moment a day later is taken.
    pub fn until(windows: &[Quiet], now: i64) -> Option<i64> {
        let mut at = now;
        while let Some(end) = windows.iter().filter_map(|one| one.end(at)).max()
            && end > at
        {
            at = end;
            if at.saturating_sub(now) >= DAY {
                break;
            }
        }
        (at > now).then_some(at)
    }
}

/// `HH:MM` in minutes; hours are fewer than `hours`.
fn minutes(text: &str, hours: i64) -> Option<i64> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<i64>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    (hour < hours && minute < 60).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60 * MINUTE;
    /// Midnight UTC of some day.
    const MIDNIGHT: i64 = 20_000 * DAY;

    fn until(windows: &[&str], hour: i64) -> Option<i64> {
        let windows: Vec<Quiet> = windows
            .iter()
            .map(|text| Quiet::parse(text).expect("a window"))
            .collect();
        let end = Quiet::until(&windows, MIDNIGHT + hour * HOUR)?;
        Some((end - MIDNIGHT) / HOUR)
    }

    #[test]
    fn a_window_holds_its_begin_and_not_its_end() {
        let night = ["22:00-06:00 UTC"];
        for (hour, end) in [
            (21, None),
            (22, Some(30)),
            (23, Some(30)),
            (0, Some(6)),
            (5, Some(6)),
            (6, None),
        ] {
            assert_eq!(until(&night, hour), end, "{hour}");
        }
        assert_eq!(until(&["12:00-13:00 UTC"], 12), Some(13));
        assert_eq!(until(&["12:00-13:00 UTC"], 13), None);
    }

    #[test]
    fn an_offset_moves_a_window() {
        // 22:00 to 06:00 in Berlin's summer is 20:00 to 04:00.
        assert_eq!(until(&["22:00-06:00 +02:00"], 20), Some(28));
        assert_eq!(until(&["22:00-06:00 +02:00"], 4), None);
        assert_eq!(until(&["22:00-06:00 -05:00"], 3), Some(11));
    }

    #[test]
    fn windows_that_meet_are_one_and_a_whole_day_ends_tomorrow() {
        assert_eq!(until(&["22:00-02:00 UTC", "02:00-07:00 UTC"], 22), Some(31));
        let end = until(&["00:00-13:00 UTC", "12:00-01:00 UTC"], 3).expect("it is quiet");
        assert!(end >= 27, "{end}");
    }

    #[test]
    fn odd_texts_are_refused_and_odd_moments_harm_nobody() {
        for text in [
            "",
            "22:00-06:00",
            "22-06 UTC",
            "24:00-06:00 UTC",
            "22:60-06:00 UTC",
            "22:00-06:00 CET",
            "22:00-22:00 UTC",
            "22:00-06:00 +2",
            "+2:00-06:00 UTC",
        ] {
            assert!(Quiet::parse(text).is_err(), "{text}");
        }
        let window = [Quiet::parse("22:00-06:00 UTC").expect("a window")];
        for now in [i64::MIN, i64::MAX, 0, -1] {
            let _ = Quiet::until(&window, now);
        }
    }
}

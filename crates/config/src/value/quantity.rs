//! Numbers with a unit.

use std::time::Duration;

/// `64MiB`, `1.5 GB`, `1048576`: units in any case, multiples of 1024, as pgstream has it.
pub fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let power = match text[end..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return None,
    };
    u64::try_from(scaled(&text[..end], 1 << (10 * power))?).ok()
}

/// `500ms`, `1m30s`, `1.5h`: as Go writes durations.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut nanos: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(unit);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        nanos = nanos.checked_add(scaled(number, unit)?)?;
        rest = after;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let below = u32::try_from(nanos % 1_000_000_000).ok()?;
    (!text.is_empty()).then(|| Duration::new(seconds, below))
}

/// A decimal number times a unit, cut to a whole number.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 || whole.len() > 20 {
        return None;
    }
    let digits: u128 = format!("0{whole}{fraction}").parse().ok()?;
    let shift = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(digits.checked_mul(unit)? / shift)
}

/// What Go and YAML take for a boolean.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("83886080", Some(80 << 20)),
            ("64MiB", Some(64 << 20)),
            ("64 mb", Some(64 << 20)),
            ("1.5GiB", Some(3 << 29)),
            (".5k", Some(512)),
            ("16777216TiB", None),
            ("-1", None),
            ("1.2.3", None),
            ("MiB", None),
            ("1e3", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("1m30s", Some(Duration::from_secs(90))),
            ("1.5h", Some(Duration::from_secs(5400))),
            ("2µs", Some(Duration::from_micros(2))),
            ("1", None),
            ("", None),
            ("s", None),
            ("1s1", None),
            ("-1s", None),
            ("1 s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_quantity_or_none(text in "\\PC*") {
            let _ = (bytes(&text), duration(&text), flag(&text));
        }

        #[test]
        fn any_number_is_none_or_right(n in 0u64..1 << 40, unit in "(KiB|MiB|GiB)?") {
            let scale = match unit.as_str() { "" => 0, "KiB" => 10, "MiB" => 20, _ => 30 };
            prop_assert_eq!(bytes(&format!("{n}{unit}")), n.checked_mul(1 << scale));
        }
    }
}

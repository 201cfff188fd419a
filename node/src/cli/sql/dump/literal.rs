//! Values and names as SQL. Pure.

use std::fmt::Write as _;

use halite_client::Value;

/// Digits of a REAL, as many as the sqlite3 shell writes.
const DIGITS: usize = 20;
/// Those that tell all of them apart. Older versions of SQLite read tiny ones right only if there are no more.
const DIGITS_OF_TINY: usize = 17;
const TINY: f64 = 1e-290;

/// A name as an identifier of SQL.
pub(in crate::cli) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What no literal holds through every shell: SQL ends at the first, and the other is taken for a part of the end of a line.
const NOT_IN_A_LITERAL: [(char, u8); 2] = [('\0', 0), ('\r', 13)];

/// A text as SQL, in any encoding of the database.
pub(super) fn text(text: &str) -> String {
    let mut sql = format!("'{}'", text.replace('\'', "''"));
    for (odd, code) in NOT_IN_A_LITERAL {
        if sql.contains(odd) {
            let mark = absent(text, code);
            sql = format!("replace({},'{mark}',char({code}))", sql.replace(odd, &mark));
        }
    }
    sql
}

/// A mark that the text does not hold.
fn absent(text: &str, code: u8) -> String {
    let mut marks = (0..).map(|number: u64| format!("<{code}.{number}>"));
    marks.find(|mark| !text.contains(mark)).unwrap_or_default()
}

/// Writes a value that SQLite reads back as the same.
pub(super) fn literal(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("NULL"),
        Value::Integer(integer) => {
            let _ = write!(out, "{integer}");
        }
        Value::Real(value) => out.push_str(&real(*value)),
        Value::Text(string) => out.push_str(&text(string)),
        Value::Blob(blob) => {
            out.push_str("x'");
            for byte in blob.iter() {
                let _ = write!(out, "{byte:02x}");
            }
            out.push('\'');
        }
    }
}

/// A REAL as the sqlite3 shell has it, but for a zero that is negative: it loses the sign.
fn real(real: f64) -> String {
    if real.is_infinite() {
        return if real > 0.0 { "1e999" } else { "-1e999" }.to_owned();
    }
    // Exact, and rounded right.
    let digits = if real.abs() < TINY {
        DIGITS_OF_TINY
    } else {
        DIGITS
    };
    let text = format!("{real:.0$e}", digits - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let digits = mantissa.replace('.', "");
    let digits = digits.trim_end_matches('0');
    let or_zero = |digits: &str| match digits {
        "" => "0".to_owned(),
        digits => digits.to_owned(),
    };
    match exponent {
        0..20 => {
            let whole = exponent as usize + 1;
            let (before, after) = digits.split_at(whole.min(digits.len()));
            format!("{sign}{before:0<whole$}.{}", or_zero(after))
        }
        -4..0 => {
            let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
            format!("{sign}0.{zeros}{digits}")
        }
        _ => {
            let (before, after) = digits.split_at(1);
            let (mark, size) = (
                if exponent < 0 { '-' } else { '+' },
                exponent.unsigned_abs(),
            );
            format!("{sign}{before}.{}e{mark}{size:02}", or_zero(after))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &Value) -> String {
        let mut out = String::new();
        literal(value, &mut out);
        out
    }

    #[test]
    fn values_are_written_so_that_they_read_back() {
        for (value, want) in [
            (Value::Null, "NULL"),
            (Value::Integer(i64::MIN), "-9223372036854775808"),
            (Value::Text("it's\n".into()), "'it''s\n'"),
            (
                Value::Text("a\0b".into()),
                "replace('a<0.0>b','<0.0>',char(0))",
            ),
            (
                Value::Text("<13.0>\r\0'".into()),
                "replace(replace('<13.0><13.1><0.0>''','<0.0>',char(0)),'<13.1>',char(13))",
            ),
            (Value::Blob(vec![0, 255].into()), "x'00ff'"),
        ] {
            assert_eq!(written(&value), want);
        }
    }

    /// What `sqlite3` 3.40.1 writes, but for the last digits where its own arithmetic is not exact.
    #[test]
    fn reals_have_the_digits_that_the_stock_shell_writes() {
        for (value, want) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (1.5, "1.5"),
            (100.0, "100.0"),
            (0.1, "0.10000000000000000555"),
            (-2.5e-5, "-2.5000000000000001198e-05"),
            (0.25, "0.25"),
            (0.001, "0.0010000000000000000208"),
            (1e15, "1000000000000000.0"),
            (123_456_789_012_345_680.0, "123456789012345680.0"),
            (1e19, "10000000000000000000.0"),
            (1e20, "1.0e+20"),
            (1e300, "1.0000000000000000525e+300"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::MAX, "1.7976931348623157081e+308"),
            (f64::INFINITY, "1e999"),
            (f64::NEG_INFINITY, "-1e999"),
        ] {
            assert_eq!(real(value), want);
        }
    }

    #[test]
    fn sqlite_reads_reals_back_bit_for_bit() {
        let connection = rusqlite::Connection::open_in_memory().expect("in memory");
        let mut read = connection
            .prepare("SELECT CAST(?1 AS REAL)")
            .expect("prepared");
        let mut state = 1_u64;
        let mut odd = vec![
            0.1,
            -0.0,
            5e-324,
            f64::MAX,
            f64::MIN_POSITIVE,
            f64::INFINITY,
            9.3e18,
        ];
        for at in 0..200_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let bits = state ^ (state >> 29);
            odd.push(match at % 2 {
                0 => f64::from_bits(bits),
                _ => (bits >> 11) as f64 / 1e9,
            });
        }
        odd.retain(|value| !value.is_nan());
        let wrong: Vec<String> = odd
            .into_iter()
            .filter_map(|value| {
                let text = real(value);
                let back: f64 = read.query_row([&text], |row| row.get(0)).expect("read");
                (back.to_bits() != value.to_bits()).then(|| format!("{text} is {back:?}"))
            })
            .collect();
        assert!(
            wrong.is_empty(),
            "{} such as {:?}",
            wrong.len(),
            &wrong[..wrong.len().min(9)]
        );
    }
}

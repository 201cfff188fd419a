//! Functions of SQL whose time grows with the square of what they are given in SQLite's own form: `instr`, `replace`, and `trim`, `ltrim` and `rtrim`
//! with a set of characters. A call runs to its end, whatever its caller's time is: with values of some megabytes one of them would hold a
//! writer, or a thread that reads, for hours. These give the same answers in the time that it takes to read the values.
//!
//! Registered on every connection that runs SQL; nothing else calls in here. The answers are compared with SQLite's own in the tests.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, c_int};

use libsqlite3_sys::{self as ffi, sqlite3_context, sqlite3_value};
use memchr::memmem;
use rusqlite::Connection;

type Function = unsafe extern "C" fn(*mut sqlite3_context, c_int, *mut *mut sqlite3_value);

const FUNCTIONS: [(&CStr, c_int, Function); 5] = [
    (c"instr", 2, instr),
    (c"replace", 3, replace),
    (c"trim", 2, trim::<true, true>),
    (c"ltrim", 2, trim::<true, false>),
    (c"rtrim", 2, trim::<false, true>),
];

/// Puts them in the place of SQLite's own.
pub(crate) fn install(connection: &Connection) -> Result<(), rusqlite::Error> {
    for (name, arguments, function) in FUNCTIONS {
        let flags = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | ffi::SQLITE_INNOCUOUS;
        // SAFETY: the handle is open as long as the connection is borrowed; the functions are static and have no data of their own.
        let code = unsafe {
            ffi::sqlite3_create_function_v2(
                connection.handle(),
                name.as_ptr(),
                arguments,
                flags,
                std::ptr::null_mut(),
                Some(function),
                None,
                None,
                None,
            )
        };
        if code != ffi::SQLITE_OK {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        }
    }
    Ok(())
}

/// An argument of a call.
#[derive(Clone, Copy)]
struct Argument(*mut sqlite3_value);

impl Argument {
    fn kind(self) -> c_int {
        // SAFETY: SQLite gives valid values, and they outlive the call.
        unsafe { ffi::sqlite3_value_type(self.0) }
    }

    /// As text; `None` for NULL, and if there is no memory for it.
    fn text<'a>(self) -> Option<&'a [u8]> {
        // SAFETY: the text stays where it is until the value is asked for another form, which nobody does; it is as long as is said.
        unsafe {
            let text = ffi::sqlite3_value_text(self.0);
            let bytes = usize::try_from(ffi::sqlite3_value_bytes(self.0)).unwrap_or(0);
            (!text.is_null()).then(|| std::slice::from_raw_parts(text, bytes))
        }
    }

    fn blob<'a>(self) -> &'a [u8] {
        // SAFETY: as for `text`; an empty one is null.
        unsafe {
            let blob = ffi::sqlite3_value_blob(self.0).cast::<u8>();
            let bytes = usize::try_from(ffi::sqlite3_value_bytes(self.0)).unwrap_or(0);
            match blob.is_null() {
                true => &[],
                false => std::slice::from_raw_parts(blob, bytes),
            }
        }
    }
}

/// A copy of a value, to be asked for another form: the value itself may be in use elsewhere.
struct Copied(*mut sqlite3_value);

impl Copied {
    fn of(argument: Argument) -> Self {
        // SAFETY: SQLite gives valid values; `drop` frees the copy.
        Self(unsafe { ffi::sqlite3_value_dup(argument.0) })
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // SAFETY: made by `sqlite3_value_dup`, and not freed before; null is let be.
        unsafe { ffi::sqlite3_value_free(self.0) }
    }
}

/// # Safety
/// SQLite's for a function: `values` are as many as were registered.
unsafe fn arguments<'a>(count: c_int, values: *mut *mut sqlite3_value) -> &'a [Argument] {
    // SAFETY: promised by the caller; an `Argument` is such a pointer and nothing else.
    unsafe {
        std::slice::from_raw_parts(
            values.cast::<Argument>(),
            usize::try_from(count).unwrap_or(0),
        )
    }
}

/// # Safety
/// `context` is that of the call.
unsafe fn give_text(context: *mut sqlite3_context, text: &[u8]) {
    // SAFETY: promised by the caller; SQLite copies the text before this returns.
    unsafe {
        ffi::sqlite3_result_text64(
            context,
            text.as_ptr().cast(),
            text.len() as u64,
            ffi::SQLITE_TRANSIENT(),
            ffi::SQLITE_UTF8 as u8,
        );
    }
}

/// A byte inside of a character.
fn goes_on(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

unsafe extern "C" fn instr(
    context: *mut sqlite3_context,
    count: c_int,
    values: *mut *mut sqlite3_value,
) {
    // SAFETY: SQLite calls it.
    let [haystack, needle] = (unsafe { arguments(count, values) }) else {
        return;
    };
    let place = match (haystack.kind(), needle.kind()) {
        (ffi::SQLITE_NULL, _) | (_, ffi::SQLITE_NULL) => return,
        (ffi::SQLITE_BLOB, ffi::SQLITE_BLOB) => {
            memmem::find(haystack.blob(), needle.blob()).map(|at| at + 1)
        }
        (ffi::SQLITE_BLOB, _) | (_, ffi::SQLITE_BLOB) => {
            let (haystack, needle) = (Copied::of(*haystack), Copied::of(*needle));
            place_in_text(Argument(haystack.0), Argument(needle.0))
        }
        _ => place_in_text(*haystack, *needle),
    };
    // SAFETY: SQLite gives the context of the call.
    unsafe { ffi::sqlite3_result_int64(context, place.unwrap_or(0) as i64) }
}

/// By characters, from 1.
fn place_in_text(haystack: Argument, needle: Argument) -> Option<usize> {
    let (haystack, needle) = (haystack.text()?, needle.text()?);
    // Only at its very beginning a text is looked at inside of a character.
    let at = match needle.first() {
        Some(first) if goes_on(*first) => haystack.starts_with(needle).then_some(0)?,
        _ => memmem::find(haystack, needle)?,
    };
    let up_to_it = haystack.iter().take(at + 1).skip(1);
    Some(1 + up_to_it.filter(|byte| !goes_on(**byte)).count())
}

unsafe extern "C" fn replace(
    context: *mut sqlite3_context,
    count: c_int,
    values: *mut *mut sqlite3_value,
) {
    // SAFETY: SQLite calls it.
    let [text, old, new] = (unsafe { arguments(count, values) }) else {
        return;
    };
    let (Some(text), Some(old)) = (text.text(), old.text()) else {
        return;
    };
    // As SQLite has it, one that begins with a NUL is empty, too.
    if old.first().is_none_or(|byte| *byte == 0) {
        // SAFETY: SQLite gives the context of the call.
        return unsafe { give_text(context, text) };
    }
    let Some(new) = new.text() else {
        return;
    };
    // SAFETY: as above; the limit is only asked for.
    let bytes_max = unsafe {
        let connection = ffi::sqlite3_context_db_handle(context);
        ffi::sqlite3_limit(connection, ffi::SQLITE_LIMIT_LENGTH, -1)
    };
    let bytes_max = usize::try_from(bytes_max).unwrap_or(0);
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), 0);
    for at in memmem::find_iter(text, old) {
        out.extend_from_slice(&text[rest..at]);
        out.extend_from_slice(new);
        rest = at + old.len();
        if out.len() > bytes_max {
            break;
        }
    }
    out.extend_from_slice(&text[rest..]);
    // SAFETY: as above.
    unsafe {
        match out.len() > bytes_max {
            true => ffi::sqlite3_result_error_toobig(context),
            false => give_text(context, &out),
        }
    }
}

/// The characters of a set by their bytes, with the place of the first of them.
struct Set<'a> {
    places: HashMap<&'a [u8], usize>,
    lengths: BTreeSet<usize>,
}

impl<'a> Set<'a> {
    fn of(text: &'a [u8]) -> Self {
        let mut set = Set {
            places: HashMap::new(),
            lengths: BTreeSet::new(),
        };
        let (mut rest, mut place) = (text, 0);
        while let Some(first) = rest.first() {
            let inside = rest[1..]
                .iter()
                .take_while(|byte| *first >= 0xc0 && goes_on(**byte));
            let (character, behind) = rest.split_at(1 + inside.count());
            set.places.entry(character).or_insert(place);
            set.lengths.insert(character.len());
            (rest, place) = (behind, place + 1);
        }
        set
    }

    /// How long the character is that `of` gives, if it is one of these: of several the one that comes first.
    fn length<'b>(&self, of: impl Fn(usize) -> Option<&'b [u8]>) -> Option<usize> {
        let found = self.lengths.iter().filter_map(|length| {
            let place = self.places.get(of(*length)?)?;
            Some((*place, *length))
        });
        found.min().map(|(_, length)| length)
    }
}

unsafe extern "C" fn trim<const LEFT: bool, const RIGHT: bool>(
    context: *mut sqlite3_context,
    count: c_int,
    values: *mut *mut sqlite3_value,
) {
    // SAFETY: SQLite calls it.
    let [text, set] = (unsafe { arguments(count, values) }) else {
        return;
    };
    if text.kind() == ffi::SQLITE_NULL {
        return;
    }
    let (Some(mut text), Some(set)) = (text.text(), set.text()) else {
        return;
    };
    // As SQLite has it, a set ends before a NUL.
    let set = Set::of(set.split(|byte| *byte == 0).next().unwrap_or_default());
    while LEFT && let Some(length) = set.length(|length| text.get(..length)) {
        text = &text[length..];
    }
    while RIGHT
        && let Some(length) = set.length(|length| text.get(text.len().checked_sub(length)?..))
    {
        text = &text[..text.len() - length];
    }
    // SAFETY: SQLite gives the context of the call.
    unsafe { give_text(context, text) }
}

#[cfg(test)]
mod tests {
    use rusqlite::types::Value;

    use super::*;

    fn values() -> Vec<Value> {
        let texts = [
            "",
            "a",
            "b",
            "aa",
            "ab",
            "aab",
            "baaab",
            "äöü",
            "öü",
            "aäaöa",
            "x\0y",
            "\0",
            "1",
            "0.5",
            "é",
            "日本語",
            "本",
        ];
        let blobs: [&[u8]; 9] = [
            b"",
            b"a",
            b"ab",
            b"\x80",
            b"\x80\x80",
            b"a\x80b",
            b"\xc3",
            b"\xc3\xa4",
            b"\xff\x00a",
        ];
        let texts = texts.iter().map(|text| Value::Text((*text).to_owned()));
        let blobs = blobs.iter().map(|blob| Value::Blob(blob.to_vec()));
        let others = [
            Value::Null,
            Value::Integer(-15),
            Value::Integer(1),
            Value::Real(0.5),
            Value::Real(1e300),
        ];
        texts.chain(blobs).chain(others).collect()
    }

    fn both() -> [Connection; 2] {
        [0, 1].map(|which| {
            let connection = Connection::open_in_memory().expect("in memory");
            if which == 1 {
                install(&connection).expect("installed");
            }
            connection
        })
    }

    #[test]
    fn answers_are_those_of_sqlite() {
        let (values, [own, ours]) = (values(), both());
        let answer = |connection: &Connection, sql: &str, given: &[&Value]| -> (String, String) {
            let mut statement = connection.prepare_cached(sql).expect("prepared");
            let given = rusqlite::params_from_iter(given.iter().copied());
            let row = statement.query_row(given, |row| Ok((row.get(0)?, row.get(1)?)));
            row.expect("an answer")
        };
        // What is no text is given as a text, too.
        for of in ["?", "CAST(? AS TEXT)"] {
            let call = |name: &str, count: usize| {
                let arguments = vec![of; count].join(", ");
                format!("SELECT hex(v), typeof(v) FROM (SELECT {name}({arguments}) AS v)")
            };
            let of_three = call("replace", 3);
            for first in &values {
                for second in &values {
                    for name in ["instr", "trim", "ltrim", "rtrim"] {
                        let (call, given) = (call(name, 2), [first, second]);
                        let (want, got) =
                            (answer(&own, &call, &given), answer(&ours, &call, &given));
                        assert_eq!(got, want, "{call} {given:?}");
                    }
                    for third in values.iter().step_by(3) {
                        let given = [first, second, third];
                        let want = answer(&own, &of_three, &given);
                        assert_eq!(answer(&ours, &of_three, &given), want, "{given:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn large_values_take_no_longer_than_reading_them() {
        let [_, ours] = both();
        // SQLite's own forms take some hours for each of these.
        let long = "WITH v(a) AS (SELECT replace(hex(zeroblob(8000000)), '00', 'a'))";
        for call in [
            "instr(a || a, a || 'b')",
            "length(replace(a || a, a || 'b', ''))",
            "length(trim(a || 'c', replace(hex(zeroblob(200000)), '00', 'bcdefghi') || 'a'))",
        ] {
            let sql = format!("{long} SELECT {call} FROM v");
            let _: i64 = ours.query_row(&sql, (), |row| row.get(0)).expect(call);
        }
    }

    #[test]
    fn what_is_too_large_is_refused_as_sqlite_does() {
        let [_, ours] = both();
        ours.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH, 1_000)
            .expect("a limit");
        let sql = "SELECT replace(hex(zeroblob(400)), '0', 'abc')";
        let refused = ours.query_row(sql, (), |_| Ok(())).expect_err("too large");
        let code = refused.sqlite_error().map(|error| error.extended_code);
        assert_eq!(code, Some(ffi::SQLITE_TOOBIG));
    }
}

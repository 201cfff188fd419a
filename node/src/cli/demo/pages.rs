//! Comparing two database files page by page.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::path::Path;

/// Journal mode of page 1, which exports change; and what SQLite rewrites there whenever a copy is applied: change counter, and version-valid-for
/// with the library's version.
const MASKED: [Range<usize>; 3] = [18..20, 24..28, 92..100];
/// Larger than any difference worth listing.
const LISTED_MAX: usize = 5;

/// What two files have in common.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Of the larger file.
    pub(super) pages: u64,
    /// Numbers of the first pages that differ, from 1.
    pub(super) differ: Vec<u64>,
    pub(super) differ_count: u64,
}

impl Comparison {
    pub(super) fn outcome(&self) -> Result<u64, String> {
        if self.pages == 0 {
            return Err("both files are empty".to_owned());
        }
        if self.differ_count == 0 {
            return Ok(self.pages);
        }
        let shown: Vec<String> = self.differ.iter().map(u64::to_string).collect();
        let more = if self.differ_count > shown.len() as u64 {
            ", ..."
        } else {
            ""
        };
        Err(format!(
            "{} of {} pages differ (pages {}{more})",
            self.differ_count,
            self.pages,
            shown.join(", ")
        ))
    }
}

/// Compares the files, whole pages of `page_size` bytes each. Reads; blocks.
pub(super) fn compare(left: &Path, right: &Path, page_size: usize) -> io::Result<Comparison> {
    let open =
        |path: &Path| Ok::<_, io::Error>(BufReader::with_capacity(1 << 20, File::open(path)?));
    let (mut left, mut right) = (open(left)?, open(right)?);
    let (mut a, mut b) = (vec![0; page_size], vec![0; page_size]);
    let mut found = Comparison {
        pages: 0,
        differ: Vec::new(),
        differ_count: 0,
    };
    loop {
        let (in_a, in_b) = (fill(&mut left, &mut a)?, fill(&mut right, &mut b)?);
        if in_a == 0 && in_b == 0 {
            return Ok(found);
        }
        found.pages += 1;
        if !same_page(found.pages, &a[..in_a], &b[..in_b]) {
            found.differ_count += 1;
            if found.differ.len() < LISTED_MAX {
                found.differ.push(found.pages);
            }
        }
    }
}

/// Reads as much as there is, at most a page.
fn fill(file: &mut impl Read, page: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < page.len() {
        match file.read(&mut page[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn same_page(number: u64, a: &[u8], b: &[u8]) -> bool {
    if number != 1 || a.len() != b.len() {
        return a == b;
    }
    let masked = |at: usize| MASKED.iter().any(|range| range.contains(&at));
    a.iter()
        .zip(b)
        .enumerate()
        .all(|(at, (a, b))| a == b || masked(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(left: &[u8], right: &[u8]) -> Comparison {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        std::fs::write(&a, left).unwrap();
        std::fs::write(&b, right).unwrap();
        compare(&a, &b, 512).unwrap()
    }

    #[test]
    fn equal_files_are_equal() {
        let file: Vec<u8> = (0..512 * 3).map(|at| at as u8).collect();
        assert_eq!(compared(&file, &file).outcome(), Ok(3));
        assert!(compared(&[], &[]).outcome().is_err());
    }

    #[test]
    fn only_journal_mode_and_counters_of_page_one_are_masked() {
        let file = vec![0_u8; 512 * 2];
        for at in 0..file.len() {
            let mut other = file.clone();
            other[at] = 1;
            let masked = MASKED.iter().any(|range| range.contains(&at));
            assert_eq!(compared(&file, &other).outcome().is_ok(), masked, "{at}");
        }
    }

    #[test]
    fn a_longer_file_differs() {
        let file = vec![0_u8; 512 * 9];
        let found = compared(&file[..512], &file);
        assert_eq!((found.pages, found.differ_count), (9, 8));
        assert_eq!(found.differ, [2, 3, 4, 5, 6]);
        assert!(
            found
                .outcome()
                .unwrap_err()
                .contains("8 of 9 pages differ (pages 2, 3, 4, 5, 6, ...)")
        );
        assert_eq!(compared(&file[..700], &file[..512]).differ, [2]);
    }
}

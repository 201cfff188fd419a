//! Builders shared by the tests: pages, files, and a model of a database that files are applied to.

use std::path::{Path, PathBuf};

use halite_ltx::{DecodeError, Decoder, Encoder, Header, PageNo, PageSize, Txid};
use proptest::prelude::*;

pub(crate) const VECTORS: [&str; 4] = ["block-512", "block-4096", "block-65536", "frame-4096"];

/// All page sizes that SQLite can have.
pub(crate) fn page_sizes() -> impl Iterator<Item = PageSize> {
    (9..=16).map(|shift| PageSize::try_from(1u32 << shift).unwrap())
}

pub(crate) fn any_page_size() -> impl Strategy<Value = PageSize> {
    (9u32..=16).prop_map(|shift| PageSize::try_from(1 << shift).unwrap())
}

/// One page that depends on `seed` only: empty, random (does not compress), text-like, or half of each.
pub(crate) fn page(page_size: PageSize, seed: u64) -> Vec<u8> {
    let len = page_size.as_usize();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    match seed % 4 {
        0 => vec![seed as u8; len],
        1 => (0..len).map(|_| random()).collect(),
        2 => (0..len)
            .map(|at| b"the quick brown fox "[(at + seed as usize) % 20])
            .collect(),
        _ => (0..len)
            .map(|at| if at < len / 2 { random() } else { 0 })
            .collect(),
    }
}

/// A file without checksums; panics if the encoder refuses it.
pub(crate) fn file(header: Header, pages: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), header).unwrap();
    for (pgno, data) in pages {
        encoder.encode_page(PageNo::new(*pgno), data).unwrap();
    }
    encoder.finish(None).unwrap().0
}

/// Header and pages of a file.
pub(crate) type Content = (Header, Vec<(u32, Vec<u8>)>);

/// Everything in a file, verified.
pub(crate) fn decode(bytes: &[u8]) -> Result<Content, DecodeError> {
    let mut decoder = Decoder::new(bytes)?;
    let header = *decoder.header();
    let mut pages = Vec::new();
    let mut page = Vec::new();
    while let Some(pgno) = decoder.next_page(&mut page)? {
        pages.push((pgno.get(), page.clone()));
    }
    decoder.finish()?;
    Ok((header, pages))
}

/// Applies a file to a database image: pages are written, the size follows `commit`.
pub(crate) fn apply(image: &mut Vec<u8>, bytes: &[u8]) {
    let (header, pages) = decode(bytes).unwrap();
    let size = header.page_size.as_usize();
    image.resize(header.commit as usize * size, 0);
    for (pgno, data) in pages {
        let at = PageNo::new(pgno).offset(header.page_size) as usize;
        image[at..at + size].copy_from_slice(&data);
    }
}

/// A test file that stock Litestream wrote.
pub(crate) struct Vector {
    pub(crate) path: PathBuf,
    pub(crate) min: Txid,
    pub(crate) max: Txid,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn vector_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name)
}

/// The files of one level, ascending.
pub(crate) fn vector_level(name: &str, level: u32) -> Vec<Vector> {
    let Ok(dir) = std::fs::read_dir(vector_dir(name).join(level.to_string())) else {
        return Vec::new();
    };
    let mut files: Vec<Vector> = dir
        .map(|entry| {
            let path = entry.unwrap().path();
            let file_name = path.file_name().unwrap().to_str().unwrap();
            let (min, max) = halite_ltx::parse_file_name(file_name).unwrap();
            assert_eq!(halite_ltx::file_name(min, max), file_name);
            Vector {
                min,
                max,
                bytes: std::fs::read(&path).unwrap(),
                path,
            }
        })
        .collect();
    files.sort_by_key(|file| (file.min, file.max));
    files
}

/// All files of all vectors.
pub(crate) fn all_vectors() -> Vec<Vector> {
    let files: Vec<Vector> = VECTORS
        .iter()
        .flat_map(|name| (0..=9).flat_map(|level| vector_level(name, level)))
        .collect();
    assert!(files.len() > 70, "vectors missing: found {}", files.len());
    files
}

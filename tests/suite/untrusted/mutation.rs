//! Damages valid files, for tests of what reads them. The command line's tests use this file, too.

use std::env;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::process::Command;
use std::time::{Duration, Instant};
use wgpu_batchnorm::internals::tests_are_exhaustive;
use wgpu_batchnorm::verify::Random;

/// Memory of a run on damaged files, in KiB: about twice what it takes. A file has a few KiB, or 100 with brackets.
const MEMORY: u32 = 100_000;

/// Set in a run with limited memory.
const LIMITED: &str = "WGPU_BATCHNORM_TEST_LIMITED";

/// Reads 2,000 damaged copies of `files`, or 100,000 if all tests are asked for. `read` returns whether the copy was
/// accepted, and must not panic, take long, or allocate much more than the copy. `test` is the full name of the test.
pub(crate) fn read_damaged(
    test: &str,
    files: &[Vec<u8>],
    damage: fn(&mut Mutator, &[u8]) -> Vec<u8>,
    read: impl Fn(&[u8]) -> bool,
) {
    if cfg!(target_os = "linux") && env::var_os(LIMITED).is_none() {
        return limited(test);
    }
    for file in files {
        assert!(read(file), "the file itself is valid");
    }
    let count = if tests_are_exhaustive() { 100_000 } else { 2_000 };
    let mut accepted = 0;
    for seed in 0..count {
        let bytes = damage(&mut Mutator::new(seed as u64), &files[seed % files.len()]);
        let started = Instant::now();
        let result = panic::catch_unwind(AssertUnwindSafe(|| read(&bytes)));
        let text = || String::from_utf8_lossy(&bytes[..bytes.len().min(2_000)]);
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "seed {seed} took {:?}: {}",
            started.elapsed(),
            text()
        );
        match result {
            Ok(valid) => accepted += usize::from(valid),
            Err(_) => panic!("seed {seed} panicked: {}", text()),
        }
    }
    // Some changes leave a valid file, so that readers get to its end. Most do not.
    println!("{accepted} of {count} accepted");
    assert!((count / 50..count * 3 / 4).contains(&accepted), "{accepted} of {count} accepted");
}

/// Runs a test once more, in a process that gets no more than [`MEMORY`].
fn limited(test: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\"")]).arg(env::current_exe().unwrap());
    shell.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(LIMITED, "1");
    // A heap of its own for each thread would take 64 MiB of the addresses that are limited. A backtrace would load the
    // program's symbols, and wait for itself for ever where there is no memory for them.
    shell.env("MALLOC_ARENA_MAX", "1").env("RUST_BACKTRACE", "0");
    let output = shell.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
}

/// Numbers at the limits of what a file can say.
const NUMBERS: [&str; 17] = [
    "0",
    "1",
    "2",
    "3",
    "7",
    "8",
    "65536",
    "1048576",
    "16777216",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "0.5",
    "1e999",
];

/// What a header may say instead.
const WORDS: [&str; 24] = [
    "F64",
    "F32",
    "F16",
    "BF16",
    "I64",
    "U8",
    "BOOL",
    "F4",
    "F8_E4M3",
    "C64",
    "null",
    "[]",
    "{}",
    "\"\"",
    ",",
    ":",
    "]",
    "}",
    "\\u0000",
    "\\ud800",
    "\u{221e}",
    "__metadata__",
    "shape",
    "data_offsets",
];

/// Damages the same files in the same ways for the same seed.
pub(crate) struct Mutator(Random);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// Returns a number below `end`, or 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        ((self.0.uniform() * end as f64) as usize).min(end.saturating_sub(1))
    }

    fn one_of<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }

    /// Returns a copy of a safetensors file with one to four changes. Half of the copies say the right length of their
    /// header, so that readers get beyond it.
    pub(crate) fn safetensors(&mut self, file: &[u8]) -> Vec<u8> {
        let end = header_end(file);
        let mut header = file[8..end].to_vec();
        for _ in 0..self.below(4) {
            self.change_text(&mut header);
        }
        if self.below(16) == 0 {
            self.add_tensor(&mut header, file.len() - end);
        }
        let mut bytes = [&(header.len() as u64).to_le_bytes(), header.as_slice(), &file[end..]].concat();
        if self.below(2) == 0 {
            self.change_bytes(&mut bytes);
        }
        bytes
    }

    /// Returns a copy of a text with one to four changes.
    pub(crate) fn text(&mut self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        for _ in 0..=self.below(4) {
            self.change_text(&mut text);
        }
        if self.below(4) == 0 {
            self.change_bytes(&mut text);
        }
        text
    }

    /// Adds a tensor to a header that is right in itself, but beyond any file. `end` is the end of the data.
    fn add_tensor(&mut self, header: &mut Vec<u8>, end: usize) {
        let size = [1 << 29, 1 << 40, usize::MAX / 2, usize::MAX - end][self.below(4)];
        let (shape, to) = (["", "1,", "1,1,"][self.below(3)], end + size);
        let tensor = format!(r#""x":{{"dtype":"U8","shape":[{shape}{size}],"data_offsets":[{end},{to}]}}"#);
        if let Some(close) = header.iter().rposition(|byte| *byte == b'}') {
            let comma = if header[..close].contains(&b':') { "," } else { "" };
            header.splice(close..close, format!("{comma}{tensor}").bytes());
        }
    }

    /// Changes a number, a word, a part in brackets, or any bytes.
    fn change_text(&mut self, text: &mut Vec<u8>) {
        let digits = |byte: &u8| byte.is_ascii_digit();
        match self.below(8) {
            0..=2 => {
                let numbers = runs(text, digits);
                if let Some(place) = self.any(&numbers) {
                    let number = self.one_of(&NUMBERS);
                    text.splice(place, number.bytes());
                }
            }
            3 => {
                // The number of another place.
                let numbers = runs(text, digits);
                if let (Some(from), Some(to)) = (self.any(&numbers), self.any(&numbers)) {
                    let number = text[from].to_vec();
                    text.splice(to, number);
                }
            }
            4 => {
                let words = runs(text, |byte| byte.is_ascii_alphanumeric() || *byte == b'_');
                if let Some(place) = self.any(&words) {
                    let word = self.one_of(&WORDS);
                    text.splice(place, word.bytes());
                }
            }
            5 => {
                // A name or a word twice: the word of another place.
                let words = runs(text, |byte| !b"\"\n =".contains(byte));
                if let (Some(from), Some(to)) = (self.any(&words), self.any(&words)) {
                    let word = text[from].to_vec();
                    text.splice(to, word);
                }
            }
            6 => {
                let depth = [1, 3, 126, 129, 20_000][self.below(5)];
                let bracket = self.one_of(&["[", "{\"a\":", "]", "}"]);
                let at = self.below(text.len() + 1);
                text.splice(at..at, bracket.repeat(depth).bytes());
            }
            _ => self.change_bytes(text),
        }
    }

    /// Flips a bit, overwrites, removes, repeats or appends bytes, or overwrites a word of eight with a number.
    fn change_bytes(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        let to = at + self.below(bytes.len().saturating_sub(at).min(64) + 1);
        match self.below(7) {
            _ if bytes.is_empty() => bytes.push(self.below(256) as u8),
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = self.below(256) as u8,
            2 => bytes.truncate(at),
            3 => {
                bytes.drain(at..to);
            }
            4 => {
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            5 => bytes.extend((0..=self.below(9)).map(|k| (k * 37) as u8)),
            _ => {
                let number =
                    [0, 7, 99_999_999, 100_000_001, u64::from(u32::MAX), 1 << 63, u64::MAX][self.below(7)];
                let place = at.min(bytes.len().saturating_sub(8)) / 8 * 8;
                let place = if self.below(2) == 0 { 0 } else { place };
                for (byte, new) in bytes[place..].iter_mut().zip(number.to_le_bytes()) {
                    *byte = new;
                }
            }
        }
    }

    fn any(&mut self, places: &[Range<usize>]) -> Option<Range<usize>> {
        places.get(self.below(places.len())).cloned()
    }
}

/// Returns the end of a valid file's header.
fn header_end(file: &[u8]) -> usize {
    let length = file.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    8 + length as usize
}

/// Returns the places of all runs of such bytes.
fn runs(text: &[u8], is_part: impl Fn(&u8) -> bool) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut begin = 0;
    for part in text.chunk_by(|a, b| is_part(a) == is_part(b)) {
        if is_part(&part[0]) {
            runs.push(begin..begin + part.len());
        }
        begin += part.len();
    }
    runs
}

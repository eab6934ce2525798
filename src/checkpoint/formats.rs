//! Recognises files of other formats, for an error that tells the way out.

use crate::error::BadCheckpoint;

/// The bytes at the beginning of a file by which its format is recognised.
pub(super) const START: u64 = 128;

/// A format by the first bytes of its files.
struct Format {
    magic: &'static [u8],
    name: &'static str,
    remedy: &'static str,
}

const NPZ: Format = Format {
    magic: b"PK\x03\x04",
    name: "a zip file of numpy.savez (.npz)",
    remedy: "convert it in Python: \
             safetensors.numpy.save_file(dict(numpy.load(\"model.npz\")), \"model.safetensors\")",
};

/// The first zip file is not recognised as [`NPZ`].
const FORMATS: [Format; 7] = [
    Format { magic: b"PK\x03\x04", name: "a zip file, as torch.save writes (.pt, .pth)", remedy: TORCH },
    Format {
        magic: b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19",
        name: "a file of an old torch.save",
        remedy: TORCH,
    },
    Format {
        magic: b"\x93NUMPY",
        name: "a file of numpy.save (.npy)",
        remedy: "convert it in Python: \
                 safetensors.numpy.save_file({\"x\": numpy.load(\"x.npy\")}, \"x.safetensors\")",
    },
    Format {
        magic: b"\x89HDF\r\n\x1a\n",
        name: "an HDF5 file, as Keras writes (.h5)",
        remedy: "load the model in Keras, and save it: safetensors.numpy.save_file(\
                 {v.path: v.numpy() for v in model.variables}, \"model.safetensors\")",
    },
    Format {
        magic: b"GGUF",
        name: "a GGUF file of llama.cpp",
        remedy: "take the safetensors file that it was made of",
    },
    Format {
        magic: b"version https://git-lfs",
        name: "a pointer of Git LFS, not the file itself",
        remedy: "fetch it with `git lfs pull`",
    },
    Format { magic: b"\x80", name: "a pickle of Python", remedy: TORCH },
];

const TORCH: &str = "convert it in Python: \
                     safetensors.torch.save_file(model.state_dict(), \"model.safetensors\")";

/// Returns the format of a file that is no safetensors file and begins with these bytes, if it is known.
pub(super) fn recognise(start: &[u8]) -> Option<BadCheckpoint> {
    let found = FORMATS.iter().find(|format| start.starts_with(format.magic))?;
    let Format { name, remedy, .. } = match found.magic {
        magic if magic == NPZ.magic && first_entry(start).ends_with(b".npy") => &NPZ,
        // A header of 128 bytes or more may begin with one byte of a pickle, but not with its version and its first
        // operation.
        b"\x80" if !matches!(start, [_, 2..=5, operation, ..] if *operation != 0) => return None,
        _ => found,
    };
    Some(BadCheckpoint::OtherFormat { name, remedy })
}

/// Returns the name of the first entry of a zip file, or its beginning.
fn first_entry(start: &[u8]) -> &[u8] {
    let Some(length) = start.get(26..28) else { return &[] };
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    let name = start.get(30..).unwrap_or_default();
    name.get(..length).unwrap_or(name)
}

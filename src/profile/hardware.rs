//! What plans need of a GPU and wgpu does not tell.

use std::fmt;

/// What a GPU is made of. wgpu tells neither: the numbers come from a table of vendors' data sheets by the adapter's
/// vendor and name, or are a guess from its kind. Plans are right with any numbers, and fast with the right ones.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Hardware {
    /// Processors that workgroups run on: streaming multiprocessors, compute units, Xe cores, GPU cores.
    pub processors: u32,
    /// Registers of a processor, of 32 bits each.
    pub registers: u32,
    /// Most registers of an invocation.
    pub registers_of_lane: u32,
    /// Bytes of the largest cache that all processors share.
    pub cache: u64,
    /// Bytes that the memory delivers in a second.
    pub bandwidth: f64,
    /// Where the numbers come from.
    pub source: HardwareSource,
}

/// Where the numbers of a [`Hardware`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HardwareSource {
    /// The adapter's name contains this name of the table.
    Device(&'static str),
    /// The adapter's name is not in the table: a common device of this vendor.
    Vendor(&'static str),
    /// The vendor is not in the table: a guess for adapters of this kind.
    Kind(wgpu::DeviceType),
    /// Set by the caller.
    Given,
}

/// One line of the table: part of the name, processors, registers, MiB of cache, GB/s.
type Line = (&'static str, u32, u32, u64, f64);

/// NVIDIA: streaming multiprocessors with 256 KiB of registers; the L2; from the architectures' white papers.
const NVIDIA: &[Line] = &[
    ("H200", 132, 1 << 16, 50, 4_800.0),
    ("H100 PCIe", 114, 1 << 16, 50, 2_000.0),
    ("H100", 132, 1 << 16, 50, 3_350.0),
    ("A100", 108, 1 << 16, 40, 1_555.0),
    ("L40", 142, 1 << 16, 96, 864.0),
    ("RTX 5090", 170, 1 << 16, 96, 1_792.0),
    ("RTX 4090", 128, 1 << 16, 72, 1_008.0),
    ("RTX 4070", 46, 1 << 16, 36, 504.0),
    ("RTX 3090", 82, 1 << 16, 6, 936.0),
    ("RTX 3060", 28, 1 << 16, 3, 360.0),
    ("T4", 40, 1 << 16, 4, 320.0),
    ("", 46, 1 << 16, 4, 448.0),
];

/// AMD: compute units with 256 KiB of vector registers (384 KiB in large RDNA 3, of which Mesa 22.3 uses 256); the Infinity Cache, or the L2 without
/// one; from the architectures' white papers and instruction set guides.
const AMD: &[Line] = &[
    ("MI300X", 304, 1 << 16, 256, 5_300.0),
    ("RX 7900", 96, 1 << 16, 96, 960.0),
    ("GFX1100", 96, 1 << 16, 96, 960.0),
    ("RX 6900", 80, 1 << 16, 128, 512.0),
    ("RX 6800", 60, 1 << 16, 128, 512.0),
    ("NAVI21", 80, 1 << 16, 128, 512.0),
    ("Radeon VII", 60, 1 << 16, 4, 1_024.0),
    ("VEGA20", 60, 1 << 16, 4, 1_024.0),
    ("", 32, 1 << 16, 32, 288.0),
];

/// Intel: Xe cores with 512 KiB (Arc) of registers; the L2; from the architectures' guides.
const INTEL: &[Line] = &[
    ("A770", 32, 1 << 17, 16, 560.0),
    ("B580", 20, 1 << 17, 18, 456.0),
    ("Arc", 16, 1 << 17, 8, 200.0),
    ("", 8, 1 << 16, 4, 68.0),
];

/// Apple: GPU cores with about 208 KiB of registers; the system's cache; from Apple's specifications and
/// microbenchmarks of others.
const APPLE: &[Line] = &[
    ("Ultra", 60, 52 << 10, 96, 800.0),
    ("Max", 32, 52 << 10, 48, 400.0),
    ("Pro", 16, 52 << 10, 24, 200.0),
    ("", 8, 52 << 10, 8, 100.0),
];

/// A vendor's number for PCI, its name, the most registers of an invocation, and its devices.
type Vendor = (u32, &'static str, u32, &'static [Line]);

/// The vendors. (AMD's GPUs address 256 registers of an invocation, but Mesa 22.3 uses 132 on RDNA 3 and spills the rest.)
const VENDORS: &[Vendor] = &[
    (0x10de, "NVIDIA", 255, NVIDIA),
    (0x1002, "AMD", 132, AMD),
    (0x8086, "Intel", 128, INTEL),
    (0x106b, "Apple", 128, APPLE),
];

impl Hardware {
    /// Looks an adapter up.
    pub fn of(info: &wgpu::AdapterInfo) -> Self {
        let name = info.name.to_lowercase();
        let contains = |part: &str| name.contains(&part.to_lowercase());
        // Metal tells no vendor.
        let vendor = VENDORS.iter().find(|vendor| info.vendor == vendor.0 || contains(vendor.1));
        if let Some((_, vendor, registers_of_lane, table)) =
            vendor.filter(|_| info.device_type != wgpu::DeviceType::Cpu)
            && let Some(line) = table.iter().find(|line| contains(line.0))
        {
            let source = match line.0 {
                "" => HardwareSource::Vendor(vendor),
                name => HardwareSource::Device(name),
            };
            return Self::new(*line, *registers_of_lane, source);
        }
        let line = match info.device_type {
            wgpu::DeviceType::IntegratedGpu => ("", 8, 1 << 15, 2, 50.0),
            wgpu::DeviceType::Cpu => ("", 2, 1 << 15, 16, 20.0),
            _ => ("", 48, 1 << 16, 4, 450.0),
        };
        Self::new(line, 64, HardwareSource::Kind(info.device_type))
    }

    fn new(
        (_, processors, registers, megabytes, gigabytes): Line,
        registers_of_lane: u32,
        source: HardwareSource,
    ) -> Self {
        let (cache, bandwidth) = (megabytes << 20, gigabytes * 1e9);
        Self { processors, registers, registers_of_lane, cache, bandwidth, source }
    }
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processors, registers, registers_of_lane: lane, cache, bandwidth, source } = self;
        let (cache, gigabytes) = (cache >> 20, bandwidth / 1e9);
        write!(
            f,
            "{processors} processors of {registers} registers, up to {lane} a lane, {cache} MiB of cache, {gigabytes} GB/s, "
        )?;
        match source {
            HardwareSource::Device(name) => write!(f, "from the table's line {name}"),
            HardwareSource::Vendor(vendor) => write!(f, "the table's default for {vendor}"),
            HardwareSource::Kind(kind) => write!(f, "a guess for this kind ({kind:?})"),
            HardwareSource::Given => f.write_str("given"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Hardware, HardwareSource};
    use wgpu::{AdapterInfo, Backend, DeviceType};

    #[test]
    fn devices_are_found_by_vendor_and_name() {
        let of = |name: &str, vendor, kind| {
            let mut info = AdapterInfo::new(kind, Backend::Vulkan);
            (info.name, info.vendor) = (name.to_owned(), vendor);
            Hardware::of(&info)
        };
        let discrete = DeviceType::DiscreteGpu;
        let h100 = of("NVIDIA H100 80GB HBM3", 0x10de, discrete);
        assert_eq!((h100.source, h100.processors), (HardwareSource::Device("H100"), 132));
        assert_eq!(of("NVIDIA H100 PCIe", 0x10de, discrete).processors, 114);
        assert_eq!(of("AMD Radeon RX 7900 XTX (RADV GFX1100)", 0x1002, discrete).cache, 96 << 20);
        assert_eq!(
            of("Null hardware (RADV NAVI21)", 0x1002, discrete).source,
            HardwareSource::Device("NAVI21")
        );
        assert_eq!(of("Apple M3 Max", 0, DeviceType::IntegratedGpu).source, HardwareSource::Device("Max"));
        assert_eq!(of("NVIDIA GeForce GT 710", 0x10de, discrete).source, HardwareSource::Vendor("NVIDIA"));
        let unknown = of("some GPU", 0x1234, discrete);
        assert_eq!(unknown.source, HardwareSource::Kind(discrete));
        assert!(unknown.processors > 0 && unknown.registers > 0 && unknown.cache > 0);
        let software = of("llvmpipe", 0x10005, DeviceType::Cpu);
        assert_eq!(software.source, HardwareSource::Kind(DeviceType::Cpu));
        assert!(h100.to_string().ends_with("from the table's line H100"), "{h100}");
    }
}

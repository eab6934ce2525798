//! The uniform that every kernel reads.

/// How a channel is divided: the WGSL struct `Splits`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[expect(missing_docs, reason = "documented once, in shaders/data/params.wgsl")]
pub struct Splits {
    pub count: u32,
    pub of_inner: u32,
    pub outer_chunk: u32,
    pub inner_chunk: u32,
}

/// Sizes and options, laid out as the WGSL struct `Params` (shaders/data/params.wgsl): a test compares the two.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[expect(missing_docs, reason = "documented once, in shaders/data/params.wgsl")]
pub struct Params {
    pub outer: u32,
    pub channels: u32,
    pub inner: u32,
    pub values: u32,
    pub reduction: Splits,
    pub elementwise: Splits,
    pub x_offset: u32,
    pub y_offset: u32,
    pub dy_offset: u32,
    pub dx_offset: u32,
    pub z_offset: u32,
    pub dz_offset: u32,
    pub eps: f32,
    pub momentum: f32,
    pub retain: f32,
    pub skip_non_finite: u32,
    pub accumulate: u32,
    pub slope: f32,
    pub opaque_zero: u32,
    pub first_channel: u32,
    pub group_channels: u32,
}

macro_rules! offsets {
    ($($field:ident),* $(,)?) => {
        /// Name and byte offset of every field.
        pub const FIELDS: &'static [(&'static str, usize)] =
            &[$((stringify!($field), std::mem::offset_of!(Self, $field))),*];
    };
}

impl Params {
    offsets!(
        outer,
        channels,
        inner,
        values,
        reduction,
        elementwise,
        x_offset,
        y_offset,
        dy_offset,
        dx_offset,
        z_offset,
        dz_offset,
        eps,
        momentum,
        retain,
        skip_non_finite,
        accumulate,
        slope,
        opaque_zero,
        first_channel,
        group_channels,
    );
}

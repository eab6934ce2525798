//! The uniform of sizes and options.

/// How a channel is divided: the WGSL struct `Splits`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[expect(missing_docs, reason = "documented once, in shaders/data/params.wgsl")]
pub struct Splits {
    pub count: u32,
    pub chunk: u32,
    pub period: u32,
    pub tiles: u32,
}

macro_rules! uniform {
    ($($field:ident: $type:ty),* $(,)?) => {
        /// Sizes and options, laid out as the WGSL struct `Params` (shaders/data/params.wgsl). A test compares the two.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        #[expect(missing_docs, reason = "documented once, in shaders/data/params.wgsl")]
        pub struct Params {
            $(pub $field: $type,)*
        }

        impl Params {
            /// Name and byte offset of every field.
            pub const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), std::mem::offset_of!(Self, $field))),*];
        }
    };
}

uniform!(
    outer: u32,
    channels: u32,
    inner: u32,
    values: u32,
    reduction: Splits,
    elementwise: Splits,
    x_offset: u32,
    y_offset: u32,
    dy_offset: u32,
    dx_offset: u32,
    residual_offset: u32,
    dresidual_offset: u32,
    eps: f32,
    momentum: f32,
    retain: f32,
    skip_non_finite: u32,
    sum_scale: f32,
    accumulate: u32,
    slope: f32,
    opaque_zero: u32,
    first_channel: u32,
    group_channels: u32,
);

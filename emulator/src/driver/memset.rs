//! Fills: `cuMemset*`, 8, 16 and 32 bits, one and two dimensions. Even the forms without `Async` do not wait.

use super::copy::check_range;
use super::entry::api;
use super::error::{CudaResult, Error};
use super::fill_op::FillOp;
use super::op::StreamOp;
use super::queue::submit;
use super::report;
use super::state::{Driver, driver};
use super::types::{DevicePtr, Handle, MemsetNodeParams};

impl FillOp {
    pub fn from_node(params: &MemsetNodeParams) -> CudaResult<FillOp> {
        let op = FillOp {
            to: params.dst,
            pitch: params.pitch,
            value: params.value,
            element: params.element_size as usize,
            width: params.width,
            height: params.height,
        };
        op.check(driver()?, "a memset node")?;
        Ok(op)
    }

    fn check(&self, driver: &Driver, name: &str) -> CudaResult {
        if !matches!(self.element, 1 | 2 | 4) {
            return Err(Error::INVALID_VALUE);
        }
        if self.width == 0 || self.height == 0 {
            return Ok(());
        }
        let row = self.width.checked_mul(self.element).ok_or(Error::INVALID_VALUE)?;
        if !self.to.is_multiple_of(self.element as u64) || (self.height > 1 && self.pitch < row) {
            return Err(report::refuse(
                Error::INVALID_VALUE,
                &format!(
                    "{name}: the address is not aligned to the element, or the pitch is less than a row"
                ),
            ));
        }
        let rows = (self.height - 1).checked_mul(self.pitch).and_then(|rows| rows.checked_add(row));
        check_range(driver, name, self.to, rows.ok_or(Error::INVALID_VALUE)?)
    }
}

fn fill(name: &str, op: FillOp, stream: Handle) -> CudaResult {
    let driver = driver()?;
    driver.state().stream(stream)?;
    op.check(driver, name)?;
    submit(stream, StreamOp::Fill(op))
}

macro_rules! fills {
    ($($flat:ident $flat_pt:ident $flat_async:ident $flat_async_pt:ident
       $rows:ident $rows_pt:ident $rows_async:ident $rows_async_pt:ident $type:ty, $element:literal;)*) => {
        api! {$(
            fn $flat | $flat_pt(to: DevicePtr, value: $type, count: usize) {
                let op = FillOp { to, pitch: 0, value: value.into(), element: $element, width: count, height: 1 };
                fill(stringify!($flat), op, Handle::NULL)
            }

            fn $flat_async | $flat_async_pt(to: DevicePtr, value: $type, count: usize, stream: Handle) {
                let op = FillOp { to, pitch: 0, value: value.into(), element: $element, width: count, height: 1 };
                fill(stringify!($flat_async), op, stream)
            }

            fn $rows | $rows_pt(to: DevicePtr, pitch: usize, value: $type, width: usize, height: usize) {
                let op = FillOp { to, pitch, value: value.into(), element: $element, width, height };
                fill(stringify!($rows), op, Handle::NULL)
            }

            fn $rows_async | $rows_async_pt(to: DevicePtr, pitch: usize, value: $type, width: usize, height: usize, stream: Handle) {
                let op = FillOp { to, pitch, value: value.into(), element: $element, width, height };
                fill(stringify!($rows_async), op, stream)
            }
        )*}
    };
}

fills! {
    cuMemsetD8_v2 cuMemsetD8_v2_ptds cuMemsetD8Async cuMemsetD8Async_ptsz
    cuMemsetD2D8_v2 cuMemsetD2D8_v2_ptds cuMemsetD2D8Async cuMemsetD2D8Async_ptsz u8, 1;
    cuMemsetD16_v2 cuMemsetD16_v2_ptds cuMemsetD16Async cuMemsetD16Async_ptsz
    cuMemsetD2D16_v2 cuMemsetD2D16_v2_ptds cuMemsetD2D16Async cuMemsetD2D16Async_ptsz u16, 2;
    cuMemsetD32_v2 cuMemsetD32_v2_ptds cuMemsetD32Async cuMemsetD32Async_ptsz
    cuMemsetD2D32_v2 cuMemsetD2D32_v2_ptds cuMemsetD2D32Async cuMemsetD2D32Async_ptsz u32, 4;
}

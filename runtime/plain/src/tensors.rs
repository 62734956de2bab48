//! Operands in and out of candle tensors.

use candle_core::{DType, Device, Result, Tensor, bail};
use half::{bf16, f16};
use ops::view::{Dims, View, ViewMut};
use plan::op::Write;
use plan::value::Dtype;

/// Copies an operand; indices become i64.
pub fn read(view: &View<'_>) -> Result<Tensor> {
    from_bytes(view.dtype, view.dims, view.bytes)
}

/// Copies what an output holds.
pub fn read_output(view: &ViewMut<'_>) -> Result<Tensor> {
    from_bytes(view.dtype, view.dims, view.bytes)
}

fn from_bytes(dtype: Dtype, dims: Dims, bytes: &[u8]) -> Result<Tensor> {
    let (shape, device) = (dims.sizes(), &Device::Cpu);
    match dtype {
        Dtype::F64 => Tensor::from_slice(bytemuck::cast_slice::<u8, f64>(bytes), shape, device),
        Dtype::F32 => Tensor::from_slice(bytemuck::cast_slice::<u8, f32>(bytes), shape, device),
        Dtype::Bf16 => Tensor::from_slice(bytemuck::cast_slice::<u8, bf16>(bytes), shape, device),
        Dtype::F16 => Tensor::from_slice(bytemuck::cast_slice::<u8, f16>(bytes), shape, device),
        Dtype::U8 => Tensor::from_slice(bytes, shape, device),
        Dtype::I32 => {
            let index: &[i32] = bytemuck::cast_slice(bytes);
            let wide: Vec<i64> = index.iter().map(|&i| i64::from(i)).collect();
            Tensor::from_vec(wide, shape, device)
        }
    }
}

/// Writes a result, or adds it to what the output held.
pub fn write(view: &mut ViewMut<'_>, current: &Tensor, result: &Tensor) -> Result<()> {
    let result = if view.write == Write::Add { (current + result)? } else { result.clone() };
    let result = result.flatten_all()?;
    match result.dtype() {
        DType::F64 => fill(view.bytes, &result.to_vec1::<f64>()?),
        DType::F32 => fill(view.bytes, &result.to_vec1::<f32>()?),
        DType::BF16 => fill(view.bytes, &result.to_vec1::<bf16>()?),
        DType::F16 => fill(view.bytes, &result.to_vec1::<f16>()?),
        other => bail!("an output of {other:?}"),
    }
}

fn fill<T: bytemuck::Pod>(bytes: &mut [u8], elements: &[T]) -> Result<()> {
    let source: &[u8] = bytemuck::cast_slice(elements);
    if source.len() != bytes.len() {
        bail!("a result of {} bytes for an output of {}", source.len(), bytes.len());
    }
    bytes.copy_from_slice(source);
    Ok(())
}

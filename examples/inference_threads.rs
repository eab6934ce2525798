//! One layer serves four tasks of tokio at once: inference takes it by shared reference.
//!
//!     cargo run --example inference_threads

use std::sync::Arc;
use wgpu_batchnorm::ndarray::{Array2, Axis};
use wgpu_batchnorm::{BatchNorm, BatchNormConfig, Error, Gpu};

#[tokio::main(worker_threads = 4)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gpu = Gpu::new()?;
    let mut bn = BatchNorm::new(&gpu, BatchNormConfig::new(8))?;
    // A step of training, so that the running statistics say something.
    bn.forward_array(requests(0).view())?;
    let bn = Arc::new(bn);

    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let bn = bn.clone();
            tokio::spawn(async move {
                let y = bn.infer_array_async(requests(task).view()).await?;
                Ok::<_, Error>((task, y))
            })
        })
        .collect();
    for task in tasks {
        let (task, y) = task.await??;
        println!("task {task}: means {:.3}", y.mean_axis(Axis(0)).ok_or("no rows")?);
        assert_eq!(y, bn.infer_array(requests(task).view())?, "alone, a request has the same result");
    }
    Ok(())
}

/// Returns the rows that a task wants to have normalised.
fn requests(task: usize) -> Array2<f32> {
    Array2::from_shape_fn((32, 8), |(n, c)| ((n * 5 + c * 3 + task) % 13) as f32)
}

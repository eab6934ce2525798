//! Softmax and cross-entropy.

use ndarray::{Array2, ArrayView1, ArrayView2};

/// Returns the mean of −ln softmax(logits)[label] over a batch, and its gradient with respect to the logits:
/// (softmax(logits) − one-hot(label)) / N. PyTorch: `nll_loss(log_softmax(logits))`.
pub(crate) fn cross_entropy(logits: ArrayView2<'_, f32>, labels: &[usize]) -> (f64, Array2<f32>) {
    let count = labels.len() as f32;
    let mut loss = 0.0;
    let mut dlogits = logits.to_owned();
    for (mut row, &label) in dlogits.rows_mut().into_iter().zip(labels) {
        // Subtract the largest, so that no exponential overflows. The softmax stays the same.
        let largest = row.fold(f32::NEG_INFINITY, |largest, &value| largest.max(value));
        row -= largest;
        let sum = row.fold(0.0, |sum, value| sum + value.exp());
        loss += f64::from(sum).ln() - f64::from(row[label]);
        row.mapv_inplace(|value| value.exp() / sum / count);
        row[label] -= 1.0 / count;
    }
    (loss / f64::from(count), dlogits)
}

/// Returns the fraction of rows in which the label's logit is the largest.
pub(crate) fn accuracy(logits: ArrayView2<'_, f32>, labels: &[usize]) -> f64 {
    let right = logits.rows().into_iter().zip(labels).filter(|(row, label)| argmax(row) == **label).count();
    right as f64 / labels.len().max(1) as f64
}

fn argmax(row: &ArrayView1<'_, f32>) -> usize {
    (1..row.len()).fold(0, |best, index| if row[index] > row[best] { index } else { best })
}

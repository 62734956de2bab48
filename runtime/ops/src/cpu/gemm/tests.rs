use super::*;
use half::bf16;

const SHAPES: [(usize, usize, usize); 13] = [
    (1, 1, 1),
    (7, 5, 3),
    (123, 5, 123),
    (1, 300, 7),
    (3, 301, 65),
    (300, 1, 7),
    (200, 310, 129),
    (49, 97, 208),
    (8, 48, 209),
    (400, 400, 17),
    (50, 60, 700),
    (5, 4, 0),
    (2, 4, 0),
];

/// Small integers: every order of summing gives the same number, and bf16 holds them.
fn operands(m: usize, n: usize, k: usize) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let a: Vec<f32> = (0..m * k).map(|i| ((i * 7919) % 13) as f32 - 6.0).collect();
    let b: Vec<f32> = (0..k * n).map(|i| ((i * 104_729) % 11) as f32 - 5.0).collect();
    let mut y = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            y[i * n + j] = (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum();
        }
    }
    (a, b, y)
}

fn turned(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| x[i % rows * columns + i / rows]).collect()
}

fn half(x: &[f32]) -> Vec<bf16> {
    x.iter().map(|&x| bf16::from_f32(x)).collect()
}

#[test]
fn product_is_the_product_in_every_layout_and_format() {
    let pool = Pool::new(2);
    for (m, n, k) in SHAPES {
        let (a, b, expected) = operands(m, n, k);
        let (at, bt) = (turned(&a, m, k), turned(&b, k, n));
        let (ah, bh, ath, bth) = (half(&a), half(&b), half(&at), half(&bt));
        let lefts = [
            Matrix::rows(Floats::F32(&a), k),
            Matrix::rows(Floats::F32(&at), m).transposed(),
            Matrix::rows(Floats::Bf16(&ah), k),
            Matrix::rows(Floats::Bf16(&ath), m).transposed(),
        ];
        let rights = [
            Matrix::rows(Floats::F32(&b), n),
            Matrix::rows(Floats::F32(&bt), k).transposed(),
            Matrix::rows(Floats::Bf16(&bh), n),
            Matrix::rows(Floats::Bf16(&bth), k).transposed(),
        ];
        let bias: Vec<f32> = (0..n).map(|j| (j % 5) as f32).collect();
        for (l, left) in lefts.into_iter().enumerate() {
            for (r, right) in rights.into_iter().enumerate() {
                let shape = Shape { m, n, k };
                let mut y = vec![f32::NAN; m * n];
                gemm(&pool, shape, left, right, FloatsMut::F32(&mut y), Finish::default());
                assert_eq!(y, expected, "{m}×{n}×{k} layouts {l} {r}");
                let finish = Finish { add: true, bias: Some(Floats::F32(&bias)) };
                gemm(&pool, shape, left, right, FloatsMut::F32(&mut y), finish);
                for (i, (y, e)) in y.iter().zip(&expected).enumerate() {
                    assert_eq!(*y, 2.0 * e + bias[i % n], "{m}×{n}×{k} layouts {l} {r}, added");
                }
                let mut y = vec![bf16::NAN; m * n];
                gemm(&pool, shape, left, right, FloatsMut::Bf16(&mut y), Finish::default());
                let rounded: Vec<bf16> = half(&expected);
                assert_eq!(y, rounded, "{m}×{n}×{k} layouts {l} {r}, bf16");
            }
        }
    }
}

/// The instruction for pairs gives the same sums where they are exact.
#[cfg(target_arch = "x86_64")]
#[test]
fn pairs_give_the_same_sums() {
    if !super::super::simd::has_pairs() {
        eprintln!("skipped: the processor has no avx512_bf16");
        return;
    }
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    fn pairs(job: &Job<'_, f32>, words: &mut [u32]) {
        job.multiply::<super::super::simd::Avx512, kernel::Avx512Pairs, 8, 48>(words);
    }
    for (m, n, k) in SHAPES {
        let (a, b, expected) = operands(m, n, k);
        let (at, bt) = (half(&turned(&a, m, k)), half(&turned(&b, k, n)));
        let (a, b) = (half(&a), half(&b));
        let lefts = [Matrix::rows(Floats::Bf16(&a), k), Matrix::rows(Floats::Bf16(&at), m).transposed()];
        let rights = [Matrix::rows(Floats::Bf16(&b), n), Matrix::rows(Floats::Bf16(&bt), k).transposed()];
        for left in lefts {
            for right in rights {
                let mut y = vec![f32::NAN; m * n];
                let parts = Parts::new(&mut y);
                let (rows, columns) = (0..m, 0..n);
                let finish = Finish::default();
                let job = Job { a: left, b: Right::Lies(right), y: &parts, rows, columns, n, k, finish };
                let mut words = vec![0; job.scratch()];
                #[allow(unsafe_code)] // calls a function compiled for more than the base of the target
                // SAFETY: `has_pairs` found every feature.
                unsafe {
                    pairs(&job, &mut words);
                }
                assert_eq!(y, expected, "{m}×{n}×{k}");
            }
        }
    }
}

/// Several tasks for every number of threads, the last of them shorter, and rows of x that share what is read of w.
#[test]
fn few_rows_are_the_same_bits_for_any_number_of_threads_and_beside_any_others() {
    let (n, k) = if cfg!(miri) { (31, 37) } else { (301, 709) };
    let number = |i: usize| (i * 7919 % 1009) as f32 / 504.5 - 1.0;
    let x: Vec<f32> = (0..FEW * k).map(|i| number(i + 3)).collect();
    let w: Vec<f32> = (0..n * k).map(number).collect();
    let (x_half, w_half) = (half(&x), half(&w));
    for (x, w) in [(Floats::F32(&x), Floats::F32(&w)), (Floats::Bf16(&x_half), Floats::Bf16(&w_half))] {
        let products = |threads: usize, rows: Range<usize>| {
            let mut y = vec![0.0; rows.len() * n];
            let shape = Shape { m: rows.len(), n, k };
            let (x, w) = (Matrix::rows(x.from(rows.start * k), k), Matrix::rows(w, k).transposed());
            gemm(&Pool::new(threads), shape, x, w, FloatsMut::F32(&mut y), Finish::default());
            y
        };
        let alone: Vec<f32> = (0..FEW).flat_map(|row| products(1, row..row + 1)).collect();
        for threads in 1..=if cfg!(miri) { 2 } else { 4 } {
            assert!(products(threads, 0..FEW) == alone, "other bits with {threads} threads");
        }
    }
}

/// Several groups of columns and stretches of k that do not fill them.
#[test]
fn packed_columns_give_the_same_bits_as_those_where_they_lie() {
    let pool = Pool::new(2);
    let shapes = [(7, 5, 3), (40, 97, 208), (33, 130, 1601), (5, 48, 768)];
    for (m, n, k) in shapes.into_iter().take(if cfg!(miri) { 1 } else { 4 }) {
        let (a, b, _) = operands(m, n, k);
        let third = |x: &[f32]| x.iter().map(|x| x / 3.0).collect::<Vec<_>>();
        let (a, b) = (third(&a), third(&b));
        let bt = turned(&b, k, n);
        let (ah, bh, bth) = (half(&a), half(&b), half(&bt));
        let wide = [Matrix::rows(Floats::F32(&b), n), Matrix::rows(Floats::F32(&bt), k).transposed()];
        let halves = [Matrix::rows(Floats::Bf16(&bh), n), Matrix::rows(Floats::Bf16(&bth), k).transposed()];
        for (left, rights) in [(Floats::F32(&a), wide), (Floats::Bf16(&ah), halves)] {
            let left = Matrix::rows(left, k);
            for right in rights {
                let mut buffer = vec![u32::MAX; plan::blocks::packed_words(n, k)];
                let packed = Packed::new(&pool, right, [n, k], left.is_bf16(), &mut buffer);
                let [mut lies, mut once] = [vec![f32::NAN; m * n], vec![f32::NAN; m * n]];
                let shape = Shape { m, n, k };
                gemm_alone(shape, left, Right::Lies(right), &mut lies, Finish::default());
                gemm_alone(shape, left, Right::Packed(packed), &mut once, Finish::default());
                assert_eq!(lies, once, "{m}×{n}×{k}");
            }
        }
    }
}

//! throw-away
use std::time::Instant;
use crate::kernel::*; use crate::method::Rule; use crate::recipe::*;
use half::bf16;
fn time(name: String, mut f: impl FnMut()) {
  let mut best = f64::MAX;
  for _ in 0..8 { let t=Instant::now(); let mut k=0; while t.elapsed().as_secs_f64()<0.015 { f(); k+=1; } best = best.min(t.elapsed().as_secs_f64()/f64::from(k)); }
  println!("{name:28} {:7.2} ns/coord {:7.2} cycles@2.6", best*1e9/4096.0, best*2.6e9/4096.0);
}
fn go<T: Element>(t: &str, only: &[usize]) {
  let mut s=7u32; let mut data: Vec<Vec<T>> = (0..100).map(|_| (0..4096).map(|_| { s=s.wrapping_mul(1664525).wrapping_add(1013904223); T::nearest(f64::from(s as i32)/1e9)}).collect()).collect();
  for &n in only {
    let refs: Vec<&[T]> = data[..n].iter().map(|v| &v[..]).collect();
    let mut out = vec![0.0; 4096];
    let rows = Rows::new(&refs, 4096);
    let w: Vec<f64> = (0..n).map(|i| 1.0 + i as f64).collect();
    let f3 = (n-1)/3;
    let ties = Ties { elect: Elect::Mass, even: Even::Nothing, divide: Divide::Weights };
    let nb = Neighbours::Paper;
    for (name, m) in [("mean", Method::Mean), ("trimmed f=1", Method::TrimmedMean{tolerate:1}), ("trimmed f=n/3", Method::TrimmedMean{tolerate:f3}), ("median", Method::Median{tolerate:1}),
      ("meamed f=n/3", Method::Meamed{tolerate:f3}), ("phocas f=n/3", Method::Phocas{tolerate:f3}), ("bulyan2 f=2", Method::Bulyan{tolerate:2, neighbours: nb}), ("ties mass", Method::Ties(ties)), ("ties count", Method::Ties(Ties{elect: Elect::Count, ..ties})), ("sign", Method::SignMajority),
      ("ram", Method::Ram{epsilon:0.1}), ("magmax", Method::Magmax), ("consensus", Method::Consensus{threshold:0.2,support:2}), ("sce", Method::Sce{density:1.0})] {
      let r = Rule::of(m, &w, n); let mut ws = r.workspace::<T>(n);
      time(format!("{t} n={n} {name}"), || r.combine(rows, &mut ws, &mut out));
      if name == "sce" { let r = Rule::Sce{weights: w.clone(), threshold: 5}; time(format!("{t} n={n} sce+var"), || r.combine(rows, &mut ws, &mut out)); }
    }
    let mut sum = 0.0;
    time(format!("{t} n={n} squares"), || sum += refs.iter().map(|r| sum_of_squares(r)).sum::<f64>());
    let mut k = 0;
    time(format!("{t} n={n} finite"), || k += refs.iter().filter(|r| first_non_finite(r).is_some()).count());
    std::hint::black_box((sum,k));
  }
  for (i, row) in data.iter_mut().enumerate() { for (k, v) in row.iter_mut().enumerate() { if (k*7+i*13)%10 != 0 { *v = T::absent(); } } }
  for &n in only { let refs: Vec<&[T]> = data[..n].iter().map(|v| &v[..]).collect(); let rows = Rows::new(&refs, 4096); let mut out = vec![0.0; 4096];
    for (name, m) in [("trimmed f=1 absent", Method::TrimmedMean{tolerate:1}), ("meamed f=1 absent", Method::Meamed{tolerate:1})] {
      let r = Rule::of(m, &[], n); let mut ws = r.workspace::<T>(n); time(format!("{t} n={n} {name}"), || r.combine(rows, &mut ws, &mut out)); } }
}
#[test]
fn timing() { let only: Vec<usize> = option_env!("NS").unwrap_or("10").split(',').map(|n| n.parse().unwrap()).collect(); go::<f32>("f32", &only); go::<bf16>("bf16", &only); }

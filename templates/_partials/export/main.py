def main(chosen: ExportConfig) -> Path:
    run_dir, config = load_run(Config, chosen.run_dir)
    out_dir = chosen.out_dir or run_dir / "export"
    out_dir.mkdir(parents=True, exist_ok=True)
    weights = weights_file(run_dir, chosen.weights)
    with Run(replace(config, compile=False), record=False) as run:
        model = load_model(config, load_splits(config), weights).eval().to(run.device)
        (args, kwargs), (other_args, other_kwargs) = (example_inputs(run, config, model, n) for n in (4, 3))
    with torch.no_grad():
        expected = model(*other_args, **other_kwargs)
        if "safetensors" in chosen.formats:
            shutil.copyfile(weights, out_dir / "weights.safetensors")
        if "torch" in chosen.formats or "onnx" in chosen.formats:
            # All dimensions are dynamic unless the model fixes them, so batches may have any size.
            shapes = [dict.fromkeys(range(value.dim()), torch.export.Dim.AUTO) for value in (*args, *kwargs.values())]
            program = torch.export.export(model, args, kwargs, dynamic_shapes=tuple(shapes))
        if "torch" in chosen.formats:
            torch.export.save(program, out_dir / "model.pt2")
            outputs = torch.export.load(out_dir / "model.pt2").module()(*other_args, **other_kwargs)
            check("model.pt2", outputs, expected, chosen.tolerance)
        if "onnx" in chosen.formats:
            torch.onnx.export(program, f=out_dir / "model.onnx", external_data=False, verbose=False)
            evaluator = ReferenceEvaluator(onnx.load(out_dir / "model.onnx"))  # ONNX's own: slow but exact
            others = [value.numpy(force=True) for value in (*other_args, *other_kwargs.values())]
            feed = dict(zip(evaluator.input_names, others, strict=True))
            outputs = [torch.from_numpy(output).to(run.device) for output in evaluator.run(None, feed)]
            check("model.onnx", outputs, expected, chosen.tolerance)
    for path in sorted(out_dir.iterdir()):
        print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")
    return out_dir


if __name__ == "__main__":
    with exit_with_message():
        main(load_config(ExportConfig))

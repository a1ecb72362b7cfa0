                if step.due(config.eval_every):
                    # % if cookiecutter.ema
                    with ema.swapped_in():
                        scores = evaluate(run, model, eval_loader)
                    # % else
                    scores = evaluate(run, model, eval_loader)
                    # % endif
                    run.log("eval", scores)
                    checkpoints.keep_best(scores)
                    # % if cookiecutter.early_stopping
                    if early_stopping.should_stop(scores["loss"]):
                        run.finish(f"no lower eval loss in {config.patience} evaluations")
                    # % endif
                if step.due(config.save_every):
                    checkpoints.save()
                if run.stopping():  # a signal or the time limit: all processes agree on the step
                    checkpoints.save()
                    raise run.stopped()  # exit code 75: run again with `--resume auto`

                # % set call = evaluation | default("evaluate(run, model, eval_loader)")
                # % set watched_score = watched | default("loss")
                if step.due(config.eval_every):
                    # % if cookiecutter.ema
                    with ema.swapped_in():
                        {{ result | default("scores") }} = {{ call }}
                    # % else
                    {{ result | default("scores") }} = {{ call }}
                    # % endif
                    run.log("eval", scores)
                    # % if then_draw is defined
                    {{ then_draw }}
                    # % endif
                    checkpoints.keep_best(scores)
                    # % if cookiecutter.early_stopping
                    if early_stopping.should_stop(scores["{{ watched_score }}"]):
                        run.finish(f"no {{ "higher" if best_is | default("min") == "max" else "lower" }} eval {{ watched_score }} in {config.patience} evaluations")
                    # % endif
                if step.due(config.save_every):
                    checkpoints.save()
                if run.stopping():  # a signal or the time limit: all processes agree on the step
                    checkpoints.save()
                    raise run.stopped()  # exit code 75: run again with `--resume auto`

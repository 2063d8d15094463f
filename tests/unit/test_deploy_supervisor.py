"""supervisor's configuration."""

from __future__ import annotations

from deploy.local import local_settings
from deploy.local.supervisor import configuration


def test_supervisor_reads_paths_with_blanks_and_signs_of_percent(tmp_path):
    from supervisor.options import ServerOptions

    odd = tmp_path / "100% my; store"
    here = local_settings.from_environment(
        {"HEADRACE_STORE": str(odd), "HEADRACE_RUN": str(tmp_path / "a run%d")}
    )
    here.logs.mkdir(parents=True)
    conf = tmp_path / "supervisord.conf"
    conf.write_text(configuration(here, here.run / "sock", here.run / "pid"))
    options = ServerOptions()
    options.realize(["-c", str(conf)], doc="")
    (serving,) = (
        g.process_configs[0] for g in options.process_group_configs if g.name == "serving"
    )
    assert f"'--models_root={odd}'" in serving.command
    assert serving.stdout_logfile == str(here.logs / "serving.log")

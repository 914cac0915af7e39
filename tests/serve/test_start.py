"""What is wrong with ports, certificates and keys is told before the model is loaded, by one line, alone and under
mpirun."""
import os
import socket
import subprocess
import tempfile

from serve_client import MPIRUN, Server


def start(*arguments, ranks=1):
    """A server that must not start; its exit code and what it said."""
    command = [os.environ["MOEBIUS"], "serve", "--port", "0", "--http-port", "0", *arguments]
    ran = subprocess.run(command if ranks == 1 else MPIRUN + [str(ranks)] + command, capture_output=True, text=True,
                         timeout=300, check=False)
    assert not ran.stdout, ran.stdout
    return ran.returncode, ran.stderr


def check_refused(code, said, *arguments):
    for ranks in (1, 2):
        got, log = start(*arguments, ranks=ranks)
        errors = [line for line in log.splitlines() if " error " in line]
        assert got == code and len(errors) == 1 and said in errors[0], (ranks, arguments, got, log)
        assert "loaded" not in log, (ranks, arguments, log)


def main():
    with socket.create_server(("127.0.0.1", 0)) as taken, tempfile.TemporaryDirectory() as folder:
        port = str(taken.getsockname()[1])
        in_use = f"cannot listen on 127.0.0.1:{port}: Address already in use"
        check_refused(3, in_use, "--port", port)
        check_refused(3, in_use, "--http-port", port)
        check_refused(3, in_use, "--admin-address", f"127.0.0.1:{port}")
        check_refused(3, "cannot listen on 192.0.2.1:0: Cannot assign", "--host", "192.0.2.1")
        check_refused(2, "expected HOST:PORT or unix:PATH, got nowhere", "--admin-address", "nowhere")
        wrong = os.path.join(folder, "wrong")
        check_refused(3, wrong, "--api-key-file", wrong)
        check_refused(3, wrong, "--admin-address", "127.0.0.1:0", "--admin-api-key-file", wrong)
        check_refused(3, wrong, "--ssl-certfile", wrong, "--ssl-keyfile", wrong)
        with open(wrong, "w", encoding="ascii") as file:
            file.write("# neither a key nor a certificate\n")
        check_refused(4, wrong, "--api-key-file", wrong)
        check_refused(3, wrong, "--ssl-certfile", wrong, "--ssl-keyfile", wrong)
    with Server() as server:  # the control: the word that was not said
        assert "loaded" in server.read_log()


if __name__ == "__main__":
    main()

/* The program of every container: it prints that it has run, and ends. With the name `stay`, it waits for a signal. */
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *name = argc > 0 ? strrchr(argv[0], '/') : NULL;
    /* a filter or a limit may deny it */
    if (write(1, "RAN\n", 4) != 4)
        return 3;
    if (name != NULL && strcmp(name, "/stay") == 0)
        pause();
    return 0;
}

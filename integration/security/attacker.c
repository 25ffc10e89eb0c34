/* The attackers of integration/security: attacker WORD [ARGUMENT...]. Each word is one attack, run inside a container as its
 * program; what it got it prints, and it exits with 0 when it got through, 1 when it did not, 2 when it was not told what to
 * do. Build: cc -static -O1 -Wall -Werror -pthread -o attacker attacker.c */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

struct attack {
	const char *word;
	int (*run)(int argc, char **argv);
};

/* One line for each attack, sorted by word. */
static const struct attack attacks[] = {
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	for (const struct attack *a = attacks; argc > 1 && a->word; a++)
		if (!strcmp(a->word, argv[1]))
			return a->run(argc - 1, argv + 1);
	fputs("usage: attacker WORD [ARGUMENT...], with one of the words:\n", stderr);
	for (const struct attack *a = attacks; a->word; a++)
		fprintf(stderr, "  %s\n", a->word);
	return 2;
}

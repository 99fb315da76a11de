/* SPDX-License-Identifier: GPL-2.0-only */
/* What a check of these tests does when it fails: says which test, and goes on with the next. */
static const char *test;
static int failed;

#define CHECK(cond, ...) do { \
	if (!(cond)) { \
		failed++; \
		printf("FAILED %s: ", test); \
		printf(__VA_ARGS__); \
		printf("\n"); \
		return false; \
	} \
} while (0)

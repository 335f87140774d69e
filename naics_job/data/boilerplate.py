"""Sentences any company may say of itself: where it is, since when, how good it is.

What businesses write is half such sentences, and none of them says what they do. Census texts among
them teach the adapter to read past them.
"""

import numpy as np

NUM_SENTENCES = 2000
SEED = 0
SYLLABLES = (
    "al", "be", "bri", "cal", "co", "da", "den", "el", "fa", "fer", "gol", "gra", "hal", "hi",
    "in", "jo", "ka", "kor", "lan", "lu", "ma", "mer", "no", "nor", "or", "pa", "pel", "qui", "ra",
    "ros", "sil", "so", "ta", "tor", "um", "va", "ven", "wes", "wi", "xe", "yo", "za",
)  # fmt: skip
FORMS = (
    "", "", "Ltd", "Inc.", "GmbH", "LLC", "S.A.", "Group", "Company", "International", "Partners",
    "Holdings", "& Sons",
)  # fmt: skip
PLACES = (
    "Argentina", "Arizona", "Australia", "Austria", "Bangkok", "Belgium", "Brazil", "California",
    "Chicago", "Chile", "China", "Colombia", "Dallas, Texas", "Denmark", "Egypt", "Finland",
    "Florida", "France", "Georgia", "Germany", "India", "Indonesia", "Ireland", "Istanbul", "Italy",
    "Japan", "Kenya", "London", "Madrid", "Malaysia", "Manchester", "Melbourne", "Mexico",
    "Michigan", "Milan", "Montreal", "Mumbai", "Munich", "New York", "New Zealand", "Nigeria",
    "North Carolina", "Norway", "Ohio", "Osaka", "Peru", "Poland", "Portugal", "Rotterdam",
    "Shenzhen", "Singapore", "South Africa", "South Korea", "Spain", "Sweden", "Switzerland",
    "Taiwan", "Thailand", "Toronto", "Turkey", "the Netherlands", "the United Arab Emirates",
    "the United Kingdom", "Vancouver", "Vietnam",
)  # fmt: skip
PATTERNS = (
    "{name} is a company based in {place}",
    "{name} is a {place} based company",
    "{name} is a family owned business in {place}",
    "{name} was established in {year}",
    "{name}, located in {place}, was founded in {year}",
    "{name} is a leading name in its field",
    "We are {name}, a team of {number} people in {place}",
    "The company was founded in {year} and has its headquarters in {place}",
    "With more than {number} years of experience, the team is known for expertise and reliability",
    "They are committed to quality and to the satisfaction of their customers",
    "The company serves customers in {place} and {other}",
    "The mission is to deliver innovative solutions of the highest quality",
    "The team consists of {number} qualified and experienced professionals",
    "They have offices in {place} and {other}",
    "{name} works closely with its clients to understand their needs",
    "The company holds an ISO 9001 certificate",
    "They offer competitive prices and a fast response",
    "Customers can get in touch by phone, e-mail or through the website",
    "{name} values integrity, teamwork and respect",
    "The company is a member of several associations and has won awards",
    "Sustainability is important to them",
    "They are open from Monday to Friday",
    "They follow the highest standards of safety",
    "The company has grown steadily since {year} and now employs {number}0 people",
    "{name} is privately owned",
    "The company uses modern technology and invests in research and development",
    "Follow us on social media for news and events",
    "They strive to build long term relationships with their partners",
    "The website has more information about products, projects and careers",
)


def boilerplate() -> list[str]:
    """`NUM_SENTENCES` sentences without their full stops, always the same ones."""
    rng = np.random.default_rng(SEED)

    def one_of(choices: tuple[str, ...]) -> str:
        return choices[int(rng.integers(len(choices)))]

    def name() -> str:
        stem = "".join(one_of(SYLLABLES) for _ in range(rng.integers(2, 5)))
        return f"{stem.title()} {one_of(FORMS)}".strip()

    return [
        one_of(PATTERNS).format(
            name=name(),
            place=one_of(PLACES),
            other=one_of(PLACES),
            year=rng.integers(1900, 2024),
            number=rng.integers(3, 60),
        )
        for _ in range(NUM_SENTENCES)
    ]

"""Mails of the appliance: what they say in each language, how they look, how they leave.

The outbox (`appliance.control.outbox`) holds what is to be said as a kind and facts; here a message is made of it in
the recipient's language and the space's theme, and handed to a mail server. Subjects and bodies hold counts and labels
of machines only, never names of files. Jinja2, Babel and smtplib are used nowhere else in `appliance`.
"""
